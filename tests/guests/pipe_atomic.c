/* Writes of PIPE_BUF bytes and fewer are never interleaved, with four writers at once.
 * traps: many
 */
#include "guest.h"

#define WRITERS 4
#define RECORDS 250

int main(void) {
    int p[2];
    static char record[PIPE_BUF];
    MUST(pipe(p));
    for (int w = 0; w < WRITERS; w++)
        if (!MUST(fork())) {
            close(p[0]);
            memset(record, 'a' + w, sizeof record);
            for (int i = 0; i < RECORDS; i++)
                MUST(write(p[1], record, sizeof record));
            _exit(0);
        }
    close(p[1]);
    int counts[WRITERS] = {0}, torn = 0;
    for (;;) {
        size_t got = 0;
        while (got < sizeof record) {
            ssize_t size = MUST(read(p[0], record + got, sizeof record - got));
            if (size == 0)
                break;
            got += size;
        }
        if (got == 0)
            break;
        for (size_t i = 1; i < got; i++)
            torn += record[i] != record[0];
        counts[record[0] - 'a']++;
    }
    printf("records %d %d %d %d, torn %d\n", counts[0], counts[1], counts[2], counts[3], torn);
    for (int w = 0; w < WRITERS; w++) {
        int status;
        MUST(wait(&status));
        show_status("writer", status);
    }

    /* A non-blocking write of PIPE_BUF or fewer is all or nothing; a longer one may be part. */
    MUST(pipe2(p, O_NONBLOCK));
    int whole = 0;
    while (write(p[1], record, 3000) == 3000)
        whole++;
    printf("whole writes %d, then %s\n", whole, errno_name(errno));
    return 0;
}
