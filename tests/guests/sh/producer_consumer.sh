# Two writers, one reader, locks by mkdir.
lock() { until mkdir lockdir 2>/dev/null; do sleep 0.01; done; }; unlock() { rmdir lockdir; }
echo 0 >n
work() { i=0; while [ $i -lt 10 ]; do lock; read -r v <n; echo $((v + 1)) >n; unlock; i=$((i + 1)); done; }
work & work & work & wait; cat n
