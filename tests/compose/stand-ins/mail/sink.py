"""A mail catcher: SMTP on 1025; on 8025 the part of Mailpit's HTTP that the tests and healthchecks use."""

import collections
import json
from email import message_from_bytes
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from aiosmtpd.controller import Controller

mails = collections.deque(maxlen=1000)


class Sink:
    async def handle_DATA(self, server, session, envelope):
        message = message_from_bytes(envelope.content, policy=default)
        body = message.get_body(("plain", "html"))
        mails.appendleft(
            {
                "From": {"Address": envelope.mail_from},
                "To": [{"Address": address} for address in envelope.rcpt_tos],
                "Subject": message["subject"],
                "Snippet": body.get_content() if body else "",
            }
        )
        print(f"mail for {envelope.rcpt_tos}: {message['subject']}")
        return "250 OK"


class Pages(BaseHTTPRequestHandler):
    def do_GET(self):
        known = {"/livez": b"ok", "/readyz": b"ok", "/api/v1/messages": None}
        if self.path not in known:
            self.send_error(404)
            return
        body = known[self.path] or json.dumps({"total": len(mails), "messages": list(mails)}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


Controller(Sink(), hostname="0.0.0.0", port=1025).start()
ThreadingHTTPServer(("0.0.0.0", 8025), Pages).serve_forever()
