# set -u and messages on standard error.
set -u
echo ${x-ok}
(echo $x) 2>err || echo "status is $(($? != 0))"
grep -c x err
echo end
