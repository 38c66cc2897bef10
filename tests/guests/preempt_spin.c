/* Spinners that never call the kernel keep neither sleepers nor each other from running.
 * needs: realtime
 */
#include "guest.h"

int main(void) {
    volatile int *shared =
        mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t pids[5];
    for (int i = 0; i < 5; i++) {
        pids[i] = MUST(fork());
        if (!pids[i]) {
            while (shared[0] == 0)
                shared[1 + i]++;
            _exit(i);
        }
    }
    for (int i = 0; i < 20; i++)
        sleep_ms(10);
    for (int i = 0; i < 5; i++)
        while (shared[1 + i] == 0)
            sleep_ms(1); /* each has run */
    shared[0] = 1;
    for (int i = 0; i < 5; i++)
        reap("spinner", pids[i]);
    IN_CHILD("killed while spinning", pid_t victim = fork(); if (!victim) for (;;); sleep_ms(20);
             kill(victim, SIGKILL); reap("victim", victim));
    IN_CHILD("stopped while spinning", pid_t victim = fork(); if (!victim) for (;;); sleep_ms(20);
             kill(victim, SIGSTOP); int status; waitpid(victim, &status, WUNTRACED);
             show_status("victim", status); kill(victim, SIGKILL); reap("victim", victim));
    return 0;
}
