# Perl: files, hashes, sorting, regular expressions, sprintf, here-documents.
use strict; use warnings;
open(my $f, '>', 'f') or die; print $f "$_\n" for 1 .. 100; close $f;
open($f, '<', 'f') or die; my $sum = 0; while (<$f>) { chomp; $sum += $_ } print "$sum\n"; close $f;
my %count; $count{$_ % 7}++ for 1 .. 100; print join(' ', map { "$_=$count{$_}" } sort keys %count), "\n";
my $t = 'the quick brown fox'; (my $u = $t) =~ s/(\w+)/\u$1/g; print "$u\n"; print join('|', $t =~ /(\w{5})/g), "\n";
mkdir 'd'; rename 'f', 'd/g' or die; print -s 'd/g', ' ', join(',', glob('d/*')), "\n"; printf "%05.2f %x %s\n", 3.14159, 255, 'x' x 5;
print sort { $b <=> $a } (3, 1, 2); print "\n"; local $/; open($f, '<', 'd/g'); my $all = <$f>; print length $all, "\n";
