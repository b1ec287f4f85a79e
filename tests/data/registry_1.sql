-- The registry as the first edgeq left it (schema 1), after a drop of digits.tflite was served as
-- float and then as INT8: `sqlite3 STATE_DIR/edgeq.db .dump`, with the directories as recorded then.
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE drops (
        name TEXT NOT NULL,
        sha256 TEXT NOT NULL,
        outcome TEXT NOT NULL CHECK (outcome IN ('accepted', 'quarantined')),
        PRIMARY KEY (name, sha256)
    );
INSERT INTO "drops" VALUES('digits','6135305b5965ad869732de016dbdaef21935222ec313294fdc34faa77c48010d','accepted');
CREATE TABLE events (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        time REAL NOT NULL,
        name TEXT NOT NULL,
        version INTEGER,
        kind TEXT NOT NULL,
        message TEXT NOT NULL,
        fields TEXT NOT NULL
    );
INSERT INTO "events" VALUES(1,1.79546480091286063188e+09,'digits',NULL,'accepted','drop 6135305b5965 was accepted','{}');
INSERT INTO "events" VALUES(2,1.79546480093374204636e+09,'digits',1,'committed','version 1 serves (float, float)','{"seconds": 0.0013}');
INSERT INTO "events" VALUES(3,1.79546480564783906934e+09,'digits',2,'committed','version 2 serves (cpu-int8, entropy)','{"seconds": 0.002}');
CREATE TABLE models (
        name TEXT PRIMARY KEY,
        newest INTEGER NOT NULL DEFAULT 0,  -- a number is never given twice
        live INTEGER,
        is_pinned INTEGER NOT NULL DEFAULT 0,
        FOREIGN KEY (name, live) REFERENCES versions (name, version)
    );
INSERT INTO "models" VALUES('digits',2,2,0);
CREATE TABLE versions (
        name TEXT NOT NULL REFERENCES models (name),
        version INTEGER NOT NULL,
        model_sha256 TEXT NOT NULL,
        engine TEXT NOT NULL,
        method TEXT NOT NULL,
        directory TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('installed', 'verified', 'committed', 'rolled_back', 'rejected', 'retired')),
        reason TEXT NOT NULL,
        created REAL NOT NULL,
        served INTEGER NOT NULL DEFAULT 0,  -- grows with every commit: the order of going live
        PRIMARY KEY (name, version)
    );
INSERT INTO "versions" VALUES('digits',1,'6135305b5965ad869732de016dbdaef21935222ec313294fdc34faa77c48010d','float','float','bundles/digits','retired','',1.79546480091596174239e+09,1);
INSERT INTO "versions" VALUES('digits',2,'6135305b5965ad869732de016dbdaef21935222ec313294fdc34faa77c48010d','cpu-int8','entropy','bundles/digits','committed','',1.79546480564040780063e+09,2);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('events',3);
COMMIT;
