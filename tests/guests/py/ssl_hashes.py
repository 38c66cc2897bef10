"""ssl and hashlib: contexts, ciphers, a handshake in memory with an anonymous peer."""

import hashlib
import ssl

print(hashlib.sha256(b"abc").hexdigest())
print(hashlib.pbkdf2_hmac("sha256", b"p", b"s", 1000).hex())
context = ssl.create_default_context()
print(context.verify_mode.name, context.check_hostname, len(context.get_ciphers()) > 5)
incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
client = context.wrap_bio(incoming, outgoing, server_hostname="example.org")
try:
    client.do_handshake()
except ssl.SSLWantReadError:
    hello = outgoing.read()
    print("client hello", hello[:3], len(hello) > 100, b"example.org" in hello)
print(len(ssl.RAND_bytes(16)))
