# cp, mv, ln, rm, chmod, touch, stat, du, df-free.
mkdir d; echo x >d/f; cp -r d e; cat e/f; mv e g; ls g; cp -p d/f h
ln d/f hard; ln -s d/f soft; ls -l | awk 'NR > 1 { print $1, $2, $9, $10, $11 }'
chmod 640 h; stat -c '%a %F %n' h d soft; chmod u+x,g-r h; stat -c %a h
touch -d '2001-02-03 04:05:06' h; stat -c %Y h; ls -l --full-time h 2>/dev/null | awk '{ print $6 }'
rm -r d; ls d 2>/dev/null || echo "gone $?"; cat soft 2>/dev/null || echo dangling; cat hard
mkdir -p x/y/z; rmdir x 2>/dev/null || echo not empty; rmdir -p x/y/z; ls; mv hard soft; cat soft; readlink -f . | wc -l
cp missing nowhere 2>/dev/null || echo "no source"; mv h h2; ls
