# case and patterns; globbing.
for w in apple banana 42 file.c '' '*'; do
    case $w in
    a*) echo "starts with a" ;;
    [0-9]*) echo number ;;
    *.c | *.h) echo source ;;
    '') echo empty ;;
    '*') echo star ;;
    *) echo other ;;
    esac
done
touch a.txt b.txt c.log .hidden; mkdir sub; touch sub/x sub/y
echo *.txt; echo *.none; echo [ab].*; echo ?.log; echo */*; echo .h*
set -f; echo *.txt; set +f
