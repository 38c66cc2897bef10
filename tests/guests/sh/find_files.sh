# find, xargs.
mkdir -p a/b/c d; touch a/1 a/b/2 a/b/c/3 d/4.txt; ln -s a l
find . -type f | sort
find . -type d | sort; find . -name '*.txt'; find . -type l
find a -depth | tail -n 1
find . -type f -exec basename {} \; | sort
find . -type f -print0 | xargs -0 -n 1 echo | sort
find a -type f | sort | xargs rm; find a -type f | wc -l
seq 1 10 | xargs -n 3 echo
