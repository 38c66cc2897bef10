/* Scheduling calls: policies, priorities, nice values, affinity; their errors.
 */
#include "guest.h"

int main(void) {
    struct sched_param p = {0};
    int policies[] = {SCHED_OTHER, SCHED_FIFO, SCHED_RR, SCHED_BATCH, SCHED_IDLE, 99};
    for (int i = 0; i < 6; i++)
        printf("policy %d: %d %d\n", policies[i], sched_get_priority_min(policies[i]),
               sched_get_priority_max(policies[i]));
    V(sched_getscheduler(0));
    E(sched_getparam(0, &p));
    printf("priority %d\n", p.sched_priority);
    E(sched_setscheduler(0, SCHED_BATCH, &p));
    V(sched_getscheduler(0));
    IN_CHILD("inherited", V(sched_getscheduler(0)));
    E(sched_setscheduler(0, SCHED_OTHER, &p));
    p.sched_priority = 5;
    E(sched_setscheduler(0, SCHED_OTHER, &p));
    E(sched_setscheduler(0, 99, &p));
    p.sched_priority = 0;
    E(sched_setscheduler(0, SCHED_FIFO, &p));
    E(sched_setscheduler(1 << 22, SCHED_OTHER, &p));
    E(sched_getscheduler(-1));
    E(sched_getscheduler(1 << 22));
    E(sched_getparam(0, NULL));
    E(sched_setscheduler(0, SCHED_OTHER, NULL));
    struct timespec t = {-1, -1};
    E(sched_rr_get_interval(0, &t));
    IS(t.tv_sec == 0 && t.tv_nsec >= 0);
    E(sched_yield());
    cpu_set_t set;
    CPU_ZERO(&set);
    E(sched_getaffinity(0, sizeof set, &set));
    IS(CPU_COUNT(&set) >= 1);
    E(sched_setaffinity(0, sizeof set, &set));
    E(sched_getaffinity(1 << 22, sizeof set, &set));
    E(syscall(SYS_sched_getaffinity, 0, 3, &set));
    E(syscall(SYS_sched_getaffinity, 0, sizeof set, (void *)1));
    CPU_ZERO(&set);
    E(sched_setaffinity(0, sizeof set, &set));
    CPU_SET(0, &set);
    E(sched_setaffinity(0, sizeof set, &set));
    IN_CHILD("pinned", CPU_ZERO(&set); sched_getaffinity(0, sizeof set, &set); V(CPU_COUNT(&set));
             V(sched_getcpu()));
    V(getpriority(PRIO_PROCESS, 0));
    V(nice(3));
    V(getpriority(PRIO_PROCESS, 0));
    IN_CHILD("inherited", V(getpriority(PRIO_PROCESS, 0)));
    E(setpriority(PRIO_PROCESS, 0, 50));
    V(getpriority(PRIO_PROCESS, 0));
    E(setpriority(PRIO_PROCESS, 1 << 22, 0));
    E(setpriority(77, 0, 0));
    E(getpriority(PRIO_PROCESS, 1 << 22));
    IN_CHILD("group", setpgid(0, 0); E(setpriority(PRIO_PGRP, 0, 19));
             V(getpriority(PRIO_PROCESS, 0)));
    return 0;
}
