# Perl: fork, pipes, system, backquotes, signals, waitpid.
use strict; use warnings; $| = 1;
print `echo backquotes`; print system('sh', '-c', 'exit 3') >> 8, "\n";
pipe(my $r, my $w); my $pid = fork; if (!$pid) { close $r; print $w "from the child\n"; exit 4 }
close $w; print <$r>; waitpid $pid, 0; print $? >> 8, "\n";
my $caught = 0; $SIG{USR1} = sub { $caught++ }; kill 'USR1', $$ for 1 .. 3; print "$caught\n";
eval { local $SIG{ALRM} = sub { die "alarm\n" }; alarm 1; select(undef, undef, undef, 100); }; print $@;
open(my $p, '-|', 'sort', '/dev/null') or die; close $p; open($p, '|-', 'tr a-z A-Z') or die; print $p "upper\n"; close $p;
my @kids = map { my $n = $_; my $k = fork; if (!$k) { exit $n } $k } 1 .. 10; my $total = 0; for (@kids) { waitpid $_, 0; $total += $? >> 8 } print "$total\n";
exec 'sh', '-c', 'echo executed; exit 6';
