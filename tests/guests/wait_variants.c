/* wait4: WNOHANG, WUNTRACED, WCONTINUED, process groups, and what is refused.
 */
#include "guest.h"

int main(void) {
    int status, gate[2];
    E(waitpid(-1, &status, 0));
    E(waitpid(1 << 22, &status, 0));
    E(waitpid(-(1 << 22), &status, 0));
    E(waitpid(-1, &status, 0x10000));
    E(waitpid(INT_MIN, &status, 0));

    MUST(pipe(gate));
    pid_t child = MUST(fork());
    if (child == 0) {
        hear(gate[0]);
        _exit(17);
    }
    V(waitpid(child, &status, WNOHANG));
    V(waitpid(-1, &status, WNOHANG));
    V(waitpid(0, &status, WNOHANG));
    V(waitpid(child, &status, WNOHANG | WUNTRACED | WCONTINUED));
    kill(child, SIGSTOP);
    IS(waitpid(child, &status, WUNTRACED) == child);
    show_status("child", status);
    V(waitpid(child, &status, WNOHANG | WUNTRACED)); /* told once */
    kill(child, SIGCONT);
    IS(waitpid(child, &status, WCONTINUED) == child);
    show_status("child", status);
    V(waitpid(child, &status, WNOHANG | WCONTINUED));
    tell(gate[1]);
    IS(waitpid(child, &status, WUNTRACED | WCONTINUED) == child);
    show_status("child", status);
    E(waitpid(child, &status, 0));

    /* By process group. */
    pid_t pids[3];
    for (int i = 0; i < 3; i++) {
        pids[i] = MUST(fork());
        if (pids[i] == 0) {
            hear(gate[0]);
            _exit(20);
        }
        MUST(setpgid(pids[i], i == 2 ? pids[0] : pids[i]));
    }
    V(waitpid(-pids[1], &status, WNOHANG));
    V(waitpid(-pids[0], &status, WNOHANG));
    E(waitpid(0, &status, WNOHANG)); /* none in our own group */
    for (int i = 0; i < 3; i++)
        tell(gate[1]);
    IS(waitpid(-pids[1], &status, 0) == pids[1]);
    pid_t a = waitpid(-pids[0], &status, 0), b = waitpid(-pids[0], &status, 0);
    IS((a == pids[0] && b == pids[2]) || (a == pids[2] && b == pids[0]));
    E(waitpid(-pids[0], &status, 0));

    /* A null status is no error; nor a bad one, until there is something to tell. */
    child = MUST(fork());
    if (child == 0)
        _exit(1);
    IS(waitpid(child, NULL, 0) == child);
    child = MUST(fork());
    if (child == 0)
        _exit(1);
    siginfo_t info;
    MUST(waitid(P_PID, child, &info, WEXITED | WNOWAIT));
    E(waitpid(child, (int *)1, 0));
    E(waitpid(child, &status, 0)); /* it was reaped all the same */
    return 0;
}
