# Directories, logical and physical.
mkdir -p real/sub; ln -s real link; cd link/sub; basename "$PWD"; cd ..; basename "$PWD"; cd ..
cd -P link; basename "$PWD"; cd ..; cd link; pwd -P | sed 's,.*/,,'; cd ..
cd nowhere 2>/dev/null || echo "cd failed"; cd /; pwd; cd /usr/../dev; pwd; cd -
cd; echo "home $?" 2>/dev/null
