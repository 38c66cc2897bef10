# IPC::Open3 and IPC::Open2, socket pairs, a Unix server and its client.
use strict;
use warnings;
use IO::Socket::UNIX;
use IPC::Open2;
use IPC::Open3;
use Socket;
use Symbol 'gensym';

my $err = gensym;
my $pid = open3(my $in, my $out, $err, 'sh', '-c', 'cat; echo problem >&2; exit 3');
print $in "to the child\n";
close $in;
print <$out>, <$err>;
waitpid $pid, 0;
print "status ", $? >> 8, "\n";

$pid = open2(my $read, my $write, 'tr', 'a-z', 'A-Z');
print $write "hello\n";
close $write;
print <$read>;
waitpid $pid, 0;

socketpair(my $one, my $other, AF_UNIX, SOCK_STREAM, PF_UNSPEC) or die "socketpair: $!";
syswrite $one, "through the pair\n";
sysread $other, my $text, 100;
print $text;

my $server = IO::Socket::UNIX->new(Local => 'perl.sock', Listen => 2) or die "listen: $!";
if (!fork) {
    my $client = IO::Socket::UNIX->new(Peer => 'perl.sock') or die "connect: $!";
    print $client "client says\n";
    print scalar <$client>;
    exit 0;
}
my $client = $server->accept;
print scalar <$client>;
print $client "server says\n";
close $client;
wait;
print "done $?\n";
