/* Two threads insert through one sqlite3 connection and ask which row was last: the other's.
 *
 * fails: assert
 * threads: 2
 * links: -lsqlite3
 * preemptions: 1
 * notes: each call is safe by itself (the connection is serialised), the two together are not
 */
#include <assert.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>

static sqlite3 *db;

static void *inserts(void *arg) {
    sqlite3_stmt *insert = arg;
#ifdef FIXED
    sqlite3_mutex_enter(sqlite3_db_mutex(db));
#endif
    int result = sqlite3_step(insert);
    long row = sqlite3_last_insert_rowid(db);
#ifdef FIXED
    sqlite3_mutex_leave(sqlite3_db_mutex(db));
#endif
    assert(result == SQLITE_DONE);
    return (void *)row;
}

int main(void) {
    pthread_t threads[2];
    sqlite3_stmt *inserting[2];
    void *row[2];
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_FULLMUTEX;
    if (sqlite3_open_v2(":memory:", &db, flags, NULL) != SQLITE_OK ||
        sqlite3_exec(db, "create table t (id integer primary key, n)", NULL, NULL, NULL))
        return 2;
    for (int i = 0; i < 2; i++)
        if (sqlite3_prepare_v2(db, "insert into t (n) values (1)", -1, &inserting[i], NULL))
            return 2;
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, inserts, inserting[i]);
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], &row[i]);
        sqlite3_finalize(inserting[i]);
    }
    sqlite3_close(db);
    assert(row[0] != row[1]);
    printf("rows differ\n");
    return 0;
}
