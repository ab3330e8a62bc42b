"""A plain HTTP server: many requests at a time, answers as long as they like, and a file system of its own in /tmp."""

import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

NOTES = "/tmp/notes.txt"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        url = urlsplit(self.path)
        if url.path == "/":
            return self.answer(200, {"host": self.headers["host"], "try": ["/count?to=5", "/notes"]})
        if url.path == "/count":
            return self.count(int(parse_qs(url.query).get("to", ["5"])[0]))
        if url.path == "/notes":
            notes = open(NOTES).read().splitlines() if os.path.exists(NOTES) else []
            return self.answer(200, {"notes": notes})
        self.answer(404, {"error": "no such path", "path": url.path})

    def do_POST(self):
        text = self.rfile.read(int(self.headers["content-length"] or 0)).decode()
        with open(NOTES, "a") as file:
            file.write(text.replace("\n", " ") + "\n")
        self.answer(201, {"noted": text})

    def count(self, to):
        """A line at a time."""
        self.send_response(200)
        self.send_header("content-type", "text/plain")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for number in range(1, min(to, 1000) + 1):
            self.chunk(b"%d\n" % number)
            time.sleep(0.02)
        self.chunk(b"")

    def chunk(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def answer(self, status, value):
        body = (json.dumps(value) + "\n").encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, text, *values):
        print(text % values, file=sys.stderr, flush=True)


# isola says where to listen. Who does not read it listens where the "port" of isola.jsonc says.
ThreadingHTTPServer(("0.0.0.0", int(os.environ.get("PORT", "8080"))), Handler).serve_forever()
