# umask.
umask 027; touch f; mkdir d; stat -c '%a %n' f d; umask; (umask 0; touch g; stat -c %a g); umask
umask 077; echo x >h; stat -c %a h
