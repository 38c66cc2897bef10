# git: init, commit, branch, merge, log, fsck, gc, clone.
export GIT_AUTHOR_NAME=A GIT_AUTHOR_EMAIL=a@example.org GIT_COMMITTER_NAME=A GIT_COMMITTER_EMAIL=a@example.org
export GIT_AUTHOR_DATE='2001-02-03T04:05:06Z' GIT_COMMITTER_DATE='2001-02-03T04:05:06Z' HOME=$PWD
git init -q -b main repository && cd repository || exit 1
for i in 1 2 3; do echo "line $i" >>file; git add file; git commit -q -m "commit $i"; done
git log --format='%H %s'; git checkout -q -b side HEAD~1; mkdir dir; echo other >dir/other; ln -s other dir/link
git add .; git commit -q -m side; git checkout -q main; git merge -q -m merged side; git log --oneline --graph | sed 's/ *$//'
git status --short; git fsck --full --strict 2>&1; git diff HEAD~1 --stat | cat; git gc -q; git fsck 2>&1; git count-objects -v | grep in-pack
git clone -q . ../copy && cd ../copy && git log -1 --format=%H && ls -R . && git blame -s file
