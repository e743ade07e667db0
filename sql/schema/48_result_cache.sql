-- What models made, so that the same is not computed twice for the same rights. Not logged: a crash empties it.

create unlogged table salesai.result_cache (
    -- SHA-256 over all that the value depends on: weights, adapter generation, prompt or text, rights of the caller.
    key bytea not null,
    value bytea not null,
    -- Of salesai.result_epoch, as it was when the work began.
    epoch bigint not null,
    made_at timestamptz not null default now()
);
comment on table salesai.result_cache is
    'Texts and vectors of models by the digest of all that they depend on; off with salesai.result_cache. Two sessions that make the same at once leave two rows: an index that refused one would let one wait for the other''s transaction';
create index result_cache_key_idx on salesai.result_cache (key);
create index result_cache_made_at_idx on salesai.result_cache (made_at);

-- A sequence, because it is changed without a lock and without a conflict.
create sequence salesai.result_epoch;
comment on sequence salesai.result_epoch is 'Results of before its last step are not used any more: what they were made of was deleted or redacted';

-- Owner rights: whoever deletes or redacts leaves nothing behind that was made of it.
create function salesai.forget_results() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (select from old_rows) then
        perform nextval('salesai.result_epoch');
    end if;
    return null;
end
$$;
comment on function salesai.forget_results() is 'Trigger: makes all kept results useless; a worker deletes them';

create trigger forget_results after delete on salesai.interaction
    referencing old table as old_rows for each statement execute function salesai.forget_results();
create trigger forget_results after update on salesai.segment
    referencing old table as old_rows for each statement execute function salesai.forget_results();

create function salesai.purge_results(older_than interval default '7 days', bytes_max bigint default null) returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    epoch_min constant bigint := (select e.last_value + e.is_called::integer from salesai.result_epoch e);
    size_max bigint := bytes_max;
    made_min timestamptz := now() - older_than;
    gone bigint;
begin
    if size_max is null then
        -- A call into the library, so that its settings are known.
        perform salesai.library_version();
        size_max := pg_size_bytes(current_setting('salesai.result_cache_size'));
    end if;
    -- Only then are the rows read; beyond the size go the oldest.
    if pg_table_size('salesai.result_cache') > size_max then
        select coalesce(max(s.made_at) + interval '1 microsecond', made_min) into made_min
        from (select c.made_at, sum(pg_column_size(c)) over (order by c.made_at desc) as bytes
              from salesai.result_cache c where c.made_at >= made_min and c.epoch >= epoch_min) s
        where s.bytes > size_max;
    end if;
    delete from salesai.result_cache c where c.made_at < made_min or c.epoch < epoch_min;
    get diagnostics gone = row_count;
    return gone;
end
$$;
comment on function salesai.purge_results(interval, bigint) is
    'Deletes kept results that are older, of no use any more, or the oldest beyond so many bytes (NULL: salesai.result_cache_size); how many. A worker does it by itself';
