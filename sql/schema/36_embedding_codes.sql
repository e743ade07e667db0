-- What the dense leg scans: the vectors of a set in two bits a dimension (kernels/src/codes/), in tables of their own,
-- salesai.embedding_<set id>_codes, made at run time by salesai.create_embedding_codes. Vectors that have no code yet, or
-- have changed since, wait in salesai.embedding_delta, and search reads each of them.

create table salesai.embedding_code_index (
    set_id bigint primary key references salesai.embedding_set on delete cascade,
    centre real[],
    centre_count bigint not null default 0,
    code_count bigint not null default 0,
    stale_count bigint not null default 0
);
comment on table salesai.embedding_code_index is
    'Embedding sets whose vectors have codes. centre: what they are around, the mean direction of centre_count vectors, NULL before the first; stale_count: how many of the codes are of vectors that changed or went since';

-- No foreign key: its check would lock salesai.embedding_set after the vectors, which deadlocks (57_embedding_sets.sql).
create table salesai.embedding_delta (
    set_id bigint not null,
    chunk_id bigint not null,
    -- It never had a code.
    is_new boolean not null,
    changes integer not null default 0,
    primary key (set_id, chunk_id)
);
comment on table salesai.embedding_delta is 'Vectors that have no code, or one that is not theirs any more; search reads each of them';

-- Owner rights: whoever writes vectors has them coded. A row that waits already is locked and counts on, so that nobody
-- takes it away for a code of what the vector was before.
create function salesai.note_changed_embeddings() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if tg_op = 'TRUNCATE' then
        execute format('delete from salesai.%I', 'embedding_' || tg_argv[0] || '_codes');
        delete from salesai.embedding_delta d where d.set_id = tg_argv[0]::bigint;
        update salesai.embedding_code_index i set centre = null, centre_count = 0, code_count = 0, stale_count = 0
        where i.set_id = tg_argv[0]::bigint;
        return null;
    end if;
    insert into salesai.embedding_delta as d (set_id, chunk_id, is_new)
    select tg_argv[0]::bigint, c.chunk_id, tg_op = 'INSERT' from changed c
    on conflict (set_id, chunk_id) do update set changes = d.changes + 1;
    return null;
end
$$;
comment on function salesai.note_changed_embeddings() is 'Trigger: queues changed vectors of an embedding set for new codes';

create function salesai.can_have_codes(dimensions integer) returns boolean
language sql immutable strict parallel safe
as $$ select dimensions between 32 and 1920 $$;
comment on function salesai.can_have_codes(integer) is
    'Whether vectors of so many dimensions can have codes (kernels/src/codes/mod.rs): those of fewer say too little, those of more do not fit a page';

create function salesai.waiting_embeddings(set_id bigint, at_most integer) returns integer
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
    select count(*)::integer from (select from salesai.embedding_delta d where d.set_id = $1 limit at_most) d
$$;
comment on function salesai.waiting_embeddings(bigint, integer) is 'How many vectors of a set wait for codes, counted no further than at_most';

-- Like the vectors' own, the table is no extension member. Its rows fill whole pages.
create function salesai.create_embedding_codes(set_id bigint) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    vectors constant text := 'embedding_' || set_id;
    codes constant text := vectors || '_codes';
begin
    execute format('drop table if exists salesai.%I', codes);
    execute format('create table salesai.%I (codes bytea storage plain not null) using heap', codes);
    -- Nothing asks the planner for a row of it, and a sample of wide rows takes much memory.
    execute format('alter table salesai.%I alter column codes set statistics 0', codes);
    execute format('alter table salesai.%I enable row level security, force row level security', codes);
    execute format('create policy worker on salesai.%I to salesai_worker using (true)', codes);
    execute format('grant select, insert, delete on salesai.%I to salesai_worker', codes);
    execute format('comment on table salesai.%I is %L', codes, format('Codes of the vectors of embedding set %s, sixteen a group', set_id));
    insert into salesai.embedding_code_index (set_id) values (set_id);
    execute format(
        'create trigger note_added_embeddings after insert on salesai.%1$I referencing new table as changed
             for each statement execute function salesai.note_changed_embeddings(%2$L);
         create trigger note_changed_embeddings after update on salesai.%1$I referencing new table as changed
             for each statement execute function salesai.note_changed_embeddings(%2$L);
         create trigger note_gone_embeddings after delete on salesai.%1$I referencing old table as changed
             for each statement execute function salesai.note_changed_embeddings(%2$L);
         create trigger note_truncated_embeddings after truncate on salesai.%1$I
             for each statement execute function salesai.note_changed_embeddings(%2$L)', vectors, set_id);
    execute format('insert into salesai.embedding_delta (set_id, chunk_id, is_new) select $1, e.chunk_id, true from salesai.%I e', vectors)
        using set_id;
    update salesai.embedding_set s set index_method = 'codes' where s.id = set_id;
end
$$;
comment on function salesai.create_embedding_codes(bigint) is 'Makes the table of an embedding set''s codes, and queues its vectors for them';

-- One step; false when there is nothing to do, or somebody else is at it.
create function salesai.merge_embedding_delta(vectors_min integer default 256) returns boolean
language c volatile parallel unsafe
set search_path = pg_catalog, pg_temp
as 'MODULE_PATHNAME', 'merge_embedding_delta_wrapper';
comment on function salesai.merge_embedding_delta(integer) is
    'Codes up to 4,096 vectors of a set that wait for it, if there are at least so many; false when there are not';

create function salesai.code_embeddings(set_id bigint) returns bigint
language c volatile strict parallel unsafe
set search_path = pg_catalog, pg_temp
as 'MODULE_PATHNAME', 'code_embeddings_wrapper';
comment on function salesai.code_embeddings(bigint) is
    'Codes all vectors of an embedding set anew, around their present mean; search goes on with the old codes until this commits. Returns how many';

-- Statements that the upkeep of codes runs: vectors of chunks, vectors after a chunk, their mean, and what writes codes.
create function salesai.code_statement(set_id bigint, which text) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select format(case which
        when 'some' then 'select e.chunk_id, e.embedding::@extschema:vector@.vector::real[] from salesai.%1$I e where e.chunk_id = any ($1) order by 1'
        when 'next' then 'select e.chunk_id, e.embedding::@extschema:vector@.vector::real[] from salesai.%1$I e where e.chunk_id > $1 order by 1 limit $2'
        when 'mean' then 'select @extschema:vector@.avg(@extschema:vector@.l2_normalize(e.embedding))::@extschema:vector@.vector::real[] from salesai.%1$I e where $1 is null or e.chunk_id = any ($1)'
        when 'clear' then 'delete from salesai.%2$I'
        when 'write' then 'insert into salesai.%2$I (codes) select unnest($1::bytea[])' end,
        'embedding_' || set_id, 'embedding_' || set_id || '_codes')
$$;
comment on function salesai.code_statement(bigint, text) is 'A statement of the upkeep of an embedding set''s codes';
