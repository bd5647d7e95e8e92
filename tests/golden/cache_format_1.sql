-- A DiskCache of format 1 with one answer, as the first release with that format left it on closing.
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA journal_mode = WAL;
PRAGMA application_id = 307742474;
PRAGMA user_version = 1;
CREATE TABLE entries (
    id INTEGER PRIMARY KEY,
    used INTEGER NOT NULL,
    expires REAL,
    key BLOB NOT NULL,
    value BLOB NOT NULL
);
CREATE TABLE leases (id INTEGER PRIMARY KEY, token TEXT NOT NULL, expires REAL NOT NULL);
CREATE INDEX entries_by_use ON entries (used);
CREATE INDEX entries_by_expiry ON entries (expires) WHERE expires IS NOT NULL;
INSERT INTO entries VALUES (
    339420245745635984, 1700000000000000, NULL,
    CAST('3f73f12b817b902e888243120271e4e05989bd9426d0dca19361170ade837772' AS BLOB),
    CAST('instructor/1 1fbe38a284acd856e7b14ff9f4eba987cef517c7b7f85d8a2bed5787c7ceedb6 {"tape":["{\"said\": \"yesterday\", \"more\": \"\"}"],"completion":{"how":"first","data":{"id":"1","choices":[{"finish_reason":"stop","index":0,"message":{"content":"{\"said\": \"yesterday\", \"more\": \"\"}","role":"assistant"}}],"created":1,"model":"m","object":"chat.completion"}},"model":"m","made_at":1795318528.3525968}' AS BLOB)
);
