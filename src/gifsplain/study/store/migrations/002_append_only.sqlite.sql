CREATE TRIGGER audit_keep_rows BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END;
CREATE TRIGGER audit_keep_values BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END;
CREATE TRIGGER viewing_keep_rows BEFORE DELETE ON viewing BEGIN SELECT RAISE(ABORT, 'viewing is append-only'); END;
CREATE TRIGGER viewing_keep_values BEFORE UPDATE ON viewing BEGIN SELECT RAISE(ABORT, 'viewing is append-only'); END;
CREATE TRIGGER answer_keep_rows BEFORE DELETE ON answer BEGIN SELECT RAISE(ABORT, 'answers are changed, never deleted'); END;
CREATE TRIGGER audit_no_replace BEFORE INSERT ON audit WHEN EXISTS (SELECT 1 FROM audit WHERE id = NEW.id OR request = NEW.request) BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END;
CREATE TRIGGER viewing_no_replace BEFORE INSERT ON viewing WHEN EXISTS (SELECT 1 FROM viewing WHERE id = NEW.id) BEGIN SELECT RAISE(ABORT, 'viewing is append-only'); END;
