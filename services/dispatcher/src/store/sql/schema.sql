-- Makes the schema where it is not there. Looked for first: CREATE SCHEMA IF NOT EXISTS wants the right
-- to make schemas even where there is nothing to make, and a role that was given its schema has none.
DO $$
BEGIN
    IF to_regnamespace('dispatcher') IS NULL THEN
        CREATE SCHEMA IF NOT EXISTS dispatcher;
    END IF;
END
$$
