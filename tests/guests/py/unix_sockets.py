"""Unix sockets: a threaded socketserver, descriptors that are passed, time limits, names."""

import os
import select
import socket
import socketserver
import struct
import threading


class Reverse(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(line.rstrip(b"\n")[::-1] + b"\n")


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    pass


def ask(number):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect("server.sock")
        stream = client.makefile("rwb")
        for step in range(3):
            stream.write(b"client %d step %d\n" % (number, step))
        stream.flush()
        client.shutdown(socket.SHUT_WR)
        return stream.read()


def pass_descriptors():
    one, other = socket.socketpair()
    reader, writer = os.pipe()
    socket.send_fds(one, [b"take ", b"it"], [writer])
    os.close(writer)
    message, (fd,), flags, _ = socket.recv_fds(other, 20, 5)
    os.write(fd, b"through the pipe")
    os.close(fd)
    print(message, flags, os.read(reader, 100), os.read(reader, 100))
    credentials = struct.unpack("iII", one.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    print(credentials[0] == os.getpid(), credentials[1:])
    one.settimeout(0.02)
    try:
        one.recv(1)
    except TimeoutError as error:
        print("timed out:", error)
    print(select.select([one], [one], [], 0) == ([], [one], []))
    other.close()
    print(select.select([one], [], [], 1) == ([one], [], []), one.recv(1))


def datagrams():
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    one.send(b"a datagram")
    print(other.recvfrom(4), other.gettimeout())
    named = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    named.bind("box")
    one.close()
    named.setblocking(False)
    try:
        named.recv(1)
    except BlockingIOError as error:
        print(error)
    print(named.getsockname(), os.stat("box").st_size)


def main():
    with Server("server.sock", Reverse) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        for number in range(4):
            print(ask(number))
        server.shutdown()
        thread.join()
    pass_descriptors()
    datagrams()
    print(socket.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)[0][4])
    print(socket.gethostbyname("localhost"))


main()
