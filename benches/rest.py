"""A client of a master's REST interface and change hook, over one connection that stays open."""
import http.client
import json
import urllib.parse


class Refused(OSError):
    """The master answered with something else than 200."""


class Rest:
    """One connection. Not for several threads at once."""

    def __init__(self, port, timeout=30):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.connection.close()

    def _ask(self, method, path, body=None, kind=None):
        headers = {"Content-Type": kind} if kind else {}
        try:
            self.connection.request(method, path, body, headers)
            answer = self.connection.getresponse()
            if answer.status != 200:
                raise Refused(f"{method} {path}: {answer.status} {answer.read(300)!r}")
            return answer
        except (OSError, http.client.HTTPException) as error:
            self.connection.close()
            raise error if isinstance(error, OSError) else OSError(f"{method} {path}: {error!r}") from error

    def get(self, path):
        """A path below /api/v2, as JSON."""
        return json.loads(self._ask("GET", f"/api/v2/{path}").read())

    def list(self, path, name=None):
        """The entities below a path, which are called as its last word unless `name` says how."""
        return self.get(path)[name or path.split("?")[0].split("/")[-1]]

    def total(self, path):
        """How many entities there are below a path with filters."""
        return self.get(path + ("&" if "?" in path else "?") + "limit=1")["meta"]["total"]

    def call(self, path, method, **params):
        """Asks for an act by JSON-RPC; its result."""
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        return json.loads(self._ask("POST", f"/api/v2/{path}", body, "application/json").read())["result"]

    def push_change(self, **fields):
        """Sends a change through the hook `base`."""
        body = urllib.parse.urlencode(fields)
        self._ask("POST", "/change_hook/base", body, "application/x-www-form-urlencoded").read()

    def pieces(self, path, size=1 << 20):
        """The body of a path below /api/v2, piece by piece as it comes."""
        answer = self._ask("GET", f"/api/v2/{path}")
        while True:
            piece = answer.read1(size)
            if not piece:
                return
            yield piece
