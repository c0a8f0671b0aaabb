CREATE TABLE setting (key VARCHAR NOT NULL PRIMARY KEY, value VARCHAR NOT NULL);
CREATE TABLE item (
  id {id}, number INTEGER NOT NULL UNIQUE, name VARCHAR NOT NULL, target VARCHAR NOT NULL, truth INTEGER NOT NULL CHECK (truth IN (0, 1)),
  score {float} NOT NULL, training BOOLEAN NOT NULL, facts VARCHAR NOT NULL, iou VARCHAR NOT NULL
);
CREATE TABLE media (
  id {id}, item_id INTEGER NOT NULL REFERENCES item (id), condition VARCHAR NOT NULL, panel VARCHAR NOT NULL,
  file VARCHAR NOT NULL UNIQUE, sha256 VARCHAR NOT NULL, width INTEGER NOT NULL, height INTEGER NOT NULL,
  frames INTEGER NOT NULL, duration INTEGER NOT NULL, UNIQUE (item_id, condition, panel)
);
CREATE INDEX ix_media_item_id ON media (item_id);
CREATE TABLE person (
  id {id}, role VARCHAR NOT NULL CHECK (role IN ('reader', 'admin')), name VARCHAR NOT NULL, number INTEGER NOT NULL,
  invitation VARCHAR NOT NULL UNIQUE, invited BIGINT NOT NULL, expires BIGINT NOT NULL, revoked BOOLEAN NOT NULL, UNIQUE (role, name)
);
CREATE TABLE login (
  token VARCHAR NOT NULL PRIMARY KEY, person_id INTEGER NOT NULL REFERENCES person (id), csrf VARCHAR NOT NULL,
  created BIGINT NOT NULL, expires BIGINT NOT NULL
);
CREATE INDEX ix_login_person_id ON login (person_id);
CREATE TABLE presentation (
  id {id}, key VARCHAR NOT NULL UNIQUE, person_id INTEGER NOT NULL REFERENCES person (id), read INTEGER NOT NULL,
  position INTEGER NOT NULL, item_id INTEGER NOT NULL REFERENCES item (id), condition VARCHAR NOT NULL,
  kind VARCHAR NOT NULL CHECK (kind IN ('training', 'main', 'repeat')), answered INTEGER NOT NULL, locked BOOLEAN NOT NULL,
  comment VARCHAR NOT NULL, UNIQUE (person_id, read, position)
);
CREATE INDEX ix_presentation_person_id ON presentation (person_id);
CREATE TABLE finished (
  person_id INTEGER NOT NULL REFERENCES person (id), read INTEGER NOT NULL, at BIGINT NOT NULL, PRIMARY KEY (person_id, read)
);
CREATE TABLE answer (
  presentation_id INTEGER NOT NULL REFERENCES presentation (id), question VARCHAR NOT NULL, value INTEGER NOT NULL CHECK (value >= 1),
  at BIGINT NOT NULL, PRIMARY KEY (presentation_id, question)
);
CREATE TABLE audit (
  id {id}, at BIGINT NOT NULL, person_id INTEGER, action VARCHAR NOT NULL, presentation_id INTEGER, question VARCHAR NOT NULL,
  before VARCHAR NOT NULL, after VARCHAR NOT NULL, request VARCHAR UNIQUE
);
CREATE INDEX ix_audit_presentation_id ON audit (presentation_id);
CREATE TABLE viewing (
  id {id}, at BIGINT NOT NULL, presentation_id INTEGER NOT NULL REFERENCES presentation (id), page VARCHAR NOT NULL, kind VARCHAR NOT NULL
);
CREATE INDEX ix_viewing_presentation_id ON viewing (presentation_id);
