from django.db import migrations

# The bounds of a month are the smallest UUIDv7 of its first millisecond and of the next month's.
FUNCTIONS = """
CREATE FUNCTION billing_first_call_id(moment timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT (lpad(to_hex((extract(epoch FROM moment) * 1000)::bigint), 12, '0') || '70008000000000000000')::uuid
$$;

CREATE FUNCTION billing_ensure_partition(month date) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    starts date := date_trunc('month', month)::date;
    ends date := (date_trunc('month', month) + interval '1 month')::date;
    parent text;
BEGIN
    FOREACH parent IN ARRAY ARRAY['billing_usagerecord', 'billing_callattempt'] LOOP
        EXECUTE format(
            'CREATE TABLE IF NOT EXISTS %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)',
            parent || to_char(starts, '_YYYY_MM'), parent,
            billing_first_call_id(starts::timestamp AT TIME ZONE 'UTC'),
            billing_first_call_id(ends::timestamp AT TIME ZONE 'UTC')
        );
    END LOOP;
END
$$;

CREATE FUNCTION billing_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: a correction is a new row', TG_TABLE_NAME;
END
$$;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON billing_usagerecord
    FOR EACH ROW EXECUTE FUNCTION billing_refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON billing_callattempt
    FOR EACH ROW EXECUTE FUNCTION billing_refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON billing_creditentry
    FOR EACH ROW EXECUTE FUNCTION billing_refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON billing_priceversion
    FOR EACH ROW EXECUTE FUNCTION billing_refuse_change();

INSERT INTO billing_spendwatermark (id, transaction_id) VALUES (1, 0);
SELECT billing_ensure_partition((now() + make_interval(months => distance))::date) FROM generate_series(-2, 2) AS distance;
"""


class Migration(migrations.Migration):
    dependencies = [("billing", "0001_initial")]
    operations = [migrations.RunSQL(FUNCTIONS, migrations.RunSQL.noop)]
