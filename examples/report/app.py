"""Sales as CSV in, a report as JSON out: POST lines of `product,amount`, or GET the report of the sample."""

import base64
import csv
import io
import json
import logging
import os
import statistics
from collections import defaultdict

logging.getLogger().setLevel(logging.INFO)

SAMPLE = "product,amount\ntea,4.50\ncoffee,3.20\ntea,5.50\nscone,2.80\n"


def handler(event, context):
    body = event.get("body")
    if body is not None and event.get("isBase64Encoded"):
        body = base64.b64decode(body).decode("utf-8", "replace")
    try:
        report = summarize(SAMPLE if body is None else body)
    except (KeyError, TypeError, ValueError) as error:
        return answer(400, {"error": "not lines of product,amount: %s" % error})
    logging.info("%d sales of %d products", report["sales"], len(report["products"]))
    return answer(200, report)


def summarize(text):
    amounts = defaultdict(list)
    for row in csv.DictReader(io.StringIO(text)):
        amounts[row["product"]].append(float(row["amount"]))
    if not amounts:
        raise ValueError("there are none")
    every = [amount for of_product in amounts.values() for amount in of_product]
    return {
        "currency": os.environ["CURRENCY"],
        "sales": len(every),
        "total": round(sum(every), 2),
        "median": statistics.median(every),
        "products": {name: round(sum(of_product), 2) for name, of_product in sorted(amounts.items())},
    }


def answer(status, value):
    return {"statusCode": status, "headers": {"content-type": "application/json"}, "body": json.dumps(value)}
