"""sqlite3: tables, indexes, transactions, two connections that lock each other out."""

import os
import sqlite3

a = sqlite3.connect("data.db", timeout=0)
a.execute("create table t (id integer primary key, name text, value real)")
with a:
    a.executemany(
        "insert into t (name, value) values (?, ?)", [(f"n{i % 37}", i * 1.5) for i in range(2000)]
    )
a.execute("create index i on t (name)")
print(a.execute("select count(*), sum(value) from t").fetchone())
print(a.execute("select name, count(*) from t group by name order by 2 desc, 1 limit 3").fetchall())
b = sqlite3.connect("data.db", timeout=0)
a.execute("begin immediate")
try:
    b.execute("begin immediate")
except sqlite3.OperationalError as error:
    print("second writer:", error)
a.rollback()
with b:
    b.execute("delete from t where id % 2")
print(
    a.execute("select count(*) from t").fetchone(), a.execute("pragma integrity_check").fetchone()
)
a.execute("pragma journal_mode=wal")
with a:
    a.execute("update t set value = 0")
print(b.execute("select sum(value) from t").fetchone())
a.close()
b.close()
print(sorted(os.listdir(".")))
