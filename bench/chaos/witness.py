"""What the database itself saw: triggers of the harness's own that write down who wrote what when.

They stand in a schema of their own in the run's database. A row gets its number while its writer
holds the job's row, so the numbers of one job are in the order in which the writes counted, however
late or frozen the writer was. None of Etude's code is asked.
"""

import psycopg

INSTALL = """
CREATE SCHEMA IF NOT EXISTS chaos;
CREATE TABLE IF NOT EXISTS chaos.written (
  number bigserial PRIMARY KEY,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  kind text NOT NULL,
  job_id integer NOT NULL,
  attempt integer NOT NULL
);
CREATE OR REPLACE FUNCTION chaos.see_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO chaos.written (kind, job_id, attempt)
  VALUES (TG_TABLE_NAME, NEW.job_id, NEW.attempt);
  RETURN NULL;
END $$;
CREATE OR REPLACE FUNCTION chaos.see_attempt() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    INSERT INTO chaos.written (kind, job_id, attempt) VALUES ('claim', NEW.job_id, NEW.number);
  ELSIF OLD.ended_at IS NULL AND NEW.ended_at IS NOT NULL THEN
    INSERT INTO chaos.written (kind, job_id, attempt) VALUES ('release', NEW.job_id, NEW.number);
  END IF;
  RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER chaos_metric AFTER INSERT OR UPDATE ON metric
  FOR EACH ROW WHEN (NEW.name = 'loss') EXECUTE FUNCTION chaos.see_row();
CREATE OR REPLACE TRIGGER chaos_checkpoint AFTER INSERT OR UPDATE ON checkpoint
  FOR EACH ROW EXECUTE FUNCTION chaos.see_row();
CREATE OR REPLACE TRIGGER chaos_attempt AFTER INSERT OR UPDATE ON attempt
  FOR EACH ROW EXECUTE FUNCTION chaos.see_attempt();
"""


def install(url: str) -> None:
    """Set the triggers up; a second time changes nothing."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(INSTALL)
