"""The runtime of `python3` functions: takes events from the Runtime API on a unix socket and gives them to the handler,
as AWS's own client does, whose words for errors it uses. It runs in a container that may have been started before
anyone knew which function it is for (a blank): then it asks for its function first, and everything that takes time is
already loaded. The one that knows since its start has `_HANDLER` in its environment.

The process at the other end may be killed and come back. A runtime keeps its function over that and just asks on.
Standard library only, Python 3.9 and later.
"""

import decimal
import http.client
import importlib
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
import traceback

RUNTIME = "/2018-06-01/runtime"
# Between attempts to reach a process that is away: doubled each time, from the first to the last.
RETRY_FIRST_S = 0.01
RETRY_LAST_S = 0.5


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("runtime")
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.sock.connect(self.path)
        except OSError:
            self.close()
            raise


class RuntimeApi:
    """The Runtime API of AWS Lambda, 2018-06-01, and isola's `claim`. One connection, which costs no event a connect."""

    def __init__(self, path):
        self.connection = UnixConnection(path)

    def warm(self):
        """A first answer takes much longer than a second: this is the first, before anybody waits."""
        try:
            self._exchange("GET", "/2018-06-01/ping")
        except (OSError, http.client.HTTPException):
            self.connection.close()

    def claim(self):
        """The function of this blank: waits for it as long as it takes."""
        return json.loads(self._poll("/isola/claim")[1])

    def next(self):
        return self._poll(RUNTIME + "/invocation/next")

    def respond(self, request_id, body):
        self._post("%s/invocation/%s/response" % (RUNTIME, request_id), body)

    def fail(self, request_id, error):
        self._post_error("%s/invocation/%s/error" % (RUNTIME, request_id), error)

    def fail_init(self, error):
        self._post_error(RUNTIME + "/init/error", error)

    def _poll(self, path):
        """Asks until there is an answer. The process may not know this runtime yet when it has just come back."""
        delay_s = RETRY_FIRST_S
        while True:
            try:
                status, headers, body = self._exchange("GET", path)
                if status == 200:
                    return headers, body
                # This environment is over: it timed out, or nobody wants it any more.
                if status == 403:
                    leave(1)
            except (OSError, http.client.HTTPException):
                self.connection.close()
            time.sleep(delay_s)
            delay_s = min(delay_s * 2, RETRY_LAST_S)

    def _post_error(self, path, error):
        error_type = header_text(error["errorType"])
        body = json.dumps(error).encode()
        self._post(path, body, {"Lambda-Runtime-Function-Error-Type": error_type})

    def _post(self, path, body, headers={}):
        """What cannot be delivered is dropped: the process is away, and with it who asked."""
        # A kept connection may have been closed meanwhile. What was taken twice is refused the second time.
        for _attempt in range(2 if self.connection.sock is not None else 1):
            try:
                self._exchange("POST", path, body, {"Content-Type": "application/json", **headers})
                return
            except (OSError, http.client.HTTPException):
                self.connection.close()

    def _exchange(self, method, path, body=None, headers={}):
        self.connection.request(method, path, body, headers)
        response = self.connection.getresponse()
        return response.status, response.headers, response.read()


class RuntimeFault(Exception):
    """An error of the runtime itself, by AWS's name for it."""

    def __init__(self, name, message, trace=()):
        super().__init__(message)
        self.name = name
        self.trace = list(trace)


class ClientContext:
    def __init__(self, fields):
        client = fields.get("client")
        self.client = None if client is None else Client(client)
        self.custom = fields.get("custom")
        self.env = fields.get("env")


class Client:
    def __init__(self, fields):
        self.installation_id = fields.get("installation_id")
        self.app_title = fields.get("app_title")
        self.app_version_name = fields.get("app_version_name")
        self.app_version_code = fields.get("app_version_code")
        self.app_package_name = fields.get("app_package_name")


class Identity:
    def __init__(self, fields):
        self.cognito_identity_id = fields.get("cognitoIdentityId")
        self.cognito_identity_pool_id = fields.get("cognitoIdentityPoolId")


class Context:
    """What AWS hands to a handler beside the event."""

    def __init__(self, headers):
        environment = os.environ
        self.aws_request_id = headers["Lambda-Runtime-Aws-Request-Id"]
        self.invoked_function_arn = headers["Lambda-Runtime-Invoked-Function-Arn"]
        self.function_name = environment.get("AWS_LAMBDA_FUNCTION_NAME")
        self.function_version = environment.get("AWS_LAMBDA_FUNCTION_VERSION")
        self.memory_limit_in_mb = environment.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")
        self.log_group_name = environment.get("AWS_LAMBDA_LOG_GROUP_NAME")
        self.log_stream_name = environment.get("AWS_LAMBDA_LOG_STREAM_NAME")
        client_context = json_header(headers["Lambda-Runtime-Client-Context"])
        self.client_context = None if client_context is None else ClientContext(client_context)
        self.identity = Identity(json_header(headers["Lambda-Runtime-Cognito-Identity"]) or {})
        self._deadline_ms = int(headers["Lambda-Runtime-Deadline-Ms"] or 0)

    def get_remaining_time_in_millis(self):
        return max(0, self._deadline_ms - int(time.time() * 1000))

    def log(self, message):
        sys.stdout.write(str(message))

    def __repr__(self):
        return "LambdaContext(%r)" % (self.__dict__,)


class LogHandler(logging.Handler):
    """Lines as AWS writes them. A text of several lines stays one line of the log: line ends become carriage returns."""

    def emit(self, record):
        try:
            sys.stdout.write(self.format(record).replace("\n", "\r") + "\n")
        except Exception:
            self.handleError(record)


class RequestFilter(logging.Filter):
    def filter(self, record):
        record.aws_request_id = state.request_id or ""
        return True


class State:
    """What is going on, for those who look from outside: a signal, a log line."""

    request_id = None
    is_busy = False
    is_ending = False


state = State()


def main():
    path = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("ISOLA_RUNTIME_API", "/run/isola/api.sock")
    # The first process of a container ignores a signal that it has no handler for.
    signal.signal(signal.SIGTERM, end_when_idle)
    sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")
    sys.stderr.reconfigure(line_buffering=True, errors="backslashreplace")
    api = RuntimeApi(path)
    claimed = None
    if "_HANDLER" not in os.environ:
        api.warm()
        claimed = api.claim()
    for name in [name for name in os.environ if name.startswith("ISOLA_")]:
        del os.environ[name]
    if claimed is not None:
        os.environ.update(claimed["environment"])
        os.environ.setdefault("_HANDLER", claimed["handler"])
        os.environ.setdefault("LAMBDA_TASK_ROOT", claimed["taskRoot"])
    os.environ.setdefault("AWS_EXECUTION_ENV", "AWS_Lambda_python%d.%d" % sys.version_info[:2])
    if "TZ" in os.environ:
        time.tzset()
    task_root = os.environ.setdefault("LAMBDA_TASK_ROOT", "/var/task")
    os.chdir(task_root)
    own_directory = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [task_root] + [entry for entry in sys.path if entry != own_directory]
    prepare_logging()
    try:
        handler = load_handler(os.environ["_HANDLER"])
    except Exception as error:
        described = describe_error(error)
        log_error(described)
        api.fail_init(described)
        leave(1)
    run_invocations(api, handler)


def run_invocations(api, handler):
    while True:
        headers, body = api.next()
        state.is_busy = True
        request_id = state.request_id = headers["Lambda-Runtime-Aws-Request-Id"]
        trace_id = headers["Lambda-Runtime-Trace-Id"]
        if trace_id is not None:
            os.environ["_X_AMZN_TRACE_ID"] = trace_id
        try:
            result = serialize(handler(parse_event(body), Context(headers)))
        except Exception as error:
            described = describe_error(error)
            log_error(described)
            flush()
            api.fail(request_id, described)
        else:
            flush()
            api.respond(request_id, result)
        state.is_busy = False
        if state.is_ending:
            leave(0)


def parse_event(body):
    try:
        return json.loads(body)
    except ValueError as error:
        raise RuntimeFault("Runtime.UnmarshalError", "Unable to unmarshal input: %s" % error) from None


def serialize(result):
    try:
        return json.dumps(result, default=plain, allow_nan=False).encode()
    except Exception as error:
        message = "Unable to marshal response: %s" % error
        raise RuntimeFault("Runtime.MarshalError", message) from None


def plain(value):
    """Databases hand out numbers as decimals."""
    if isinstance(value, decimal.Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    raise TypeError("Object of type %s is not JSON serializable" % type(value).__name__)


def load_handler(name):
    """`package/module.function`, as AWS reads it and with its names for what can be wrong."""
    module_name, dot, function_name = name.rpartition(".")
    if not dot or not module_name or not function_name or ".." in name:
        raise RuntimeFault("Runtime.MalformedHandlerName", "Bad handler '%s': write it as module.function" % name)
    try:
        module = importlib.import_module(module_name.replace("/", "."))
    except ImportError as error:
        message = "Unable to import module '%s': %s" % (module_name, error)
        raise RuntimeFault("Runtime.ImportModuleError", message, trace_of(error)) from None
    except SyntaxError as error:
        message = "Syntax error in module '%s': %s" % (module_name, error)
        trace = ['  File "%s" Line %s\n    %s' % (error.filename, error.lineno, error.text)]
        raise RuntimeFault("Runtime.UserCodeSyntaxError", message, trace) from None
    handler = getattr(module, function_name, None)
    if handler is None:
        message = "Handler '%s' missing on module '%s'" % (function_name, module_name)
        raise RuntimeFault("Runtime.HandlerNotFound", message)
    if not callable(handler):
        message = "Handler '%s' of module '%s' is not a function" % (function_name, module_name)
        raise RuntimeFault("Runtime.HandlerNotFound", message)
    return handler


def describe_error(error):
    if isinstance(error, RuntimeFault):
        error_type, trace = error.name, error.trace
    else:
        error_type, trace = type(error).__name__, trace_of(error)
    try:
        message = str(error)
    except Exception:
        message = "what was raised cannot be read"
    described = {"errorMessage": message, "errorType": error_type}
    if state.request_id is not None:
        described["requestId"] = state.request_id
    described["stackTrace"] = trace
    return described


def trace_of(error):
    """Of the function alone: the frames of this file are no news."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if is_function_frame(frame)]
    return traceback.format_list(frames)


def is_function_frame(frame):
    return frame.filename != __file__ and not frame.filename.startswith("<frozen importlib")


def log_error(described):
    lines = ["[ERROR] %s: %s" % (described["errorType"], described["errorMessage"])]
    if described["stackTrace"]:
        lines += ["Traceback (most recent call last):"] + "".join(described["stackTrace"]).splitlines()
    # The same form as a line of `logging`, so that whoever reads the log finds the request.
    level, _, text = "\r".join(lines).replace("\n", "\r").partition(" ")
    now = time.time()
    sys.stdout.write("%s\t%s\t%s\t%s\n" % (level, utc_text(now), state.request_id or "", text))


def utc_text(now):
    return "%s.%03dZ" % (time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)), int(now % 1 * 1000))


def prepare_logging():
    handler = LogHandler()
    line = "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s"
    formatter = logging.Formatter(line, "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    handler.addFilter(RequestFilter())
    logging.root.addHandler(handler)
    threading.excepthook = log_thread_error


def log_thread_error(failed):
    """A thread that fails ends alone, as everywhere in Python."""
    if failed.exc_type is not SystemExit and failed.exc_value is not None:
        log_error(describe_error(failed.exc_value))


def json_header(text):
    # http.client reads headers as Latin-1.
    return json.loads(text.encode("latin-1").decode("utf-8")) if text else None


def header_text(name):
    return "".join(character if " " <= character <= "~" else "?" for character in name)[:256]


def end_when_idle(_signal, _frame):
    state.is_ending = True
    if not state.is_busy:
        leave(0)


def flush():
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        # The function has closed what it did not open.
        pass


def leave(exit_code):
    """Without waiting for the function's threads."""
    flush()
    os._exit(exit_code)


if __name__ == "__main__":
    main()
