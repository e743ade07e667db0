-- Versions of all embeddings. A new set is filled and indexed while the active one serves; then one transaction
-- switches. Writers of chunks hold the lock of this file shared, who begins or switches sets holds it alone. It is taken
-- before any other, and what was read before it does not count.

-- A lock of the table, and not an advisory one, which every role could take and keep.
create function salesai.lock_embedding_sets(alone boolean) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'embedding sets can be changed at isolation level read committed only' using errcode = '25001',
            hint = 'What was written while this waited for its lock has to be seen.';
    end if;
    if alone then
        lock table salesai.embedding_set in exclusive mode;
    else
        lock table salesai.embedding_set in row share mode;
    end if;
end
$$;
comment on function salesai.lock_embedding_sets(boolean) is 'Lock, until the transaction ends, on which embedding sets there are';

-- The table is no extension member, so that pg_dump carries it. Its index comes when it is filled; an empty set
-- is filled row by row, and so has it from the start.
create function salesai.create_embedding_set(
    model text, model_sha256 text, dimensions integer, template text default null, indexed boolean default true) returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    made salesai.embedding_set;
    table_name text;
begin
    insert into salesai.embedding_set (model, model_sha256, dimensions, template, element, hnsw_m, hnsw_ef_construction)
    values (model, model_sha256, dimensions, coalesce(template, salesai.default_template()),
            current_setting('salesai.embedding_element'), current_setting('salesai.hnsw_m')::integer,
            current_setting('salesai.hnsw_ef_construction')::integer)
    returning * into made;
    table_name := 'embedding_' || made.id;
    -- Left by an extension that was dropped, whose member it was not.
    execute format('drop table if exists salesai.%I', table_name);
    execute format(
        'create table salesai.%I (
             chunk_id bigint primary key references salesai.chunk on delete cascade,
             embedding @extschema:vector@.%I(%s) not null)', table_name, made.element, dimensions);
    if current_setting('salesai.embedding_index') = 'codes' and salesai.can_have_codes(dimensions) then
        perform salesai.create_embedding_codes(made.id);
    elsif indexed then
        execute salesai.embedding_index_statement(made.id, online => false);
    end if;
    execute format('alter table salesai.%I enable row level security, force row level security', table_name);
    execute format(
        'create policy visible on salesai.%I
             using (exists (select from salesai.chunk c where c.id = chunk_id))
             with check (salesai.writes())', table_name);
    -- Search reads with the rights of the worker and then asks for each chunk as the caller.
    execute format('create policy worker on salesai.%I for select to salesai_worker using (true)', table_name);
    execute format(
        'grant select on salesai.%I to salesai_admin, salesai_manager, salesai_rep, salesai_analyst, salesai_gateway;
         grant select, insert, update, delete on salesai.%1$I to salesai_worker', table_name);
    execute format('comment on table salesai.%I is %L', table_name,
        format('Embeddings of set %s: %s, %s dimensions', made.id, model, dimensions));
    return made.id;
end
$$;
comment on function salesai.create_embedding_set(text, text, integer, text, boolean) is
    'Makes an embedding set in state "building" with its own table; element and index are the settings salesai.embedding_element, embedding_index, hnsw_m and hnsw_ef_construction. Vectors of fewer than 32 dimensions or more than 1,920 have no codes: their index is hnsw';

create function salesai.embedding_index_statement(set_id bigint, online boolean) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select format(
        'create index %s %I on salesai.%I using hnsw (embedding @extschema:vector@.%I) with (m = %s, ef_construction = %s)',
        case when online then 'concurrently' else '' end, 'embedding_' || s.id || '_index', 'embedding_' || s.id,
        s.element || '_cosine_ops', s.hnsw_m, s.hnsw_ef_construction)
    from salesai.embedding_set s where s.id = set_id
$$;
comment on function salesai.embedding_index_statement(bigint, boolean) is 'The statement that makes the index of an embedding set';

-- The statements that a worker runs on their own, outside any transaction: an index half built goes first.
create function salesai.embedding_index_steps(set_id bigint) returns text[]
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
    select case
        -- What waits is read one by one, and a worker codes it soon.
        when s.index_method = 'codes' and salesai.waiting_embeddings(set_id, 4096) < 4096 then '{}'
        when s.index_method = 'codes' then array[format('select salesai.code_embeddings(%s)', set_id)]
        when i.indisvalid then '{}'
        when i.indisvalid is null then array[salesai.embedding_index_statement(set_id, online => true)]
        else array[format('drop index concurrently salesai.%I', 'embedding_' || set_id || '_index'),
                   salesai.embedding_index_statement(set_id, online => true)] end
    from salesai.embedding_set s
    left join pg_index i on i.indexrelid = to_regclass(format('salesai.%I', 'embedding_' || set_id || '_index'))
    where s.id = set_id
$$;
comment on function salesai.embedding_index_steps(bigint) is 'What is still to be run for a valid index of an embedding set';

-- For servers without a worker: inside the caller's transaction, which then holds off changes of chunks.
create function salesai.build_embedding_index(set_id bigint) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if (select s.index_method from salesai.embedding_set s where s.id = set_id) = 'codes' then
        perform salesai.code_embeddings(set_id);
        return;
    end if;
    if to_regclass(format('salesai.%I', 'embedding_' || set_id || '_index')) is not null then
        if salesai.embedding_index_steps(set_id) = '{}' then
            return;
        end if;
        execute format('drop index salesai.%I', 'embedding_' || set_id || '_index');
    end if;
    execute salesai.embedding_index_statement(set_id, online => false);
end
$$;
comment on function salesai.build_embedding_index(bigint) is 'Makes the index of an embedding set in this transaction, if it lacks one';

-- For sets of before 0.3.0, and those that were made with salesai.embedding_index = hnsw.
create function salesai.use_embedding_codes(set_id bigint) returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '5s'
as $$
declare
    indexed constant salesai.embedding_set := salesai.locked_embedding_set(set_id);
    coded bigint;
begin
    if indexed.index_method = 'codes' then
        raise exception 'embedding set % has codes', set_id using errcode = '55000';
    end if;
    if not salesai.can_have_codes(indexed.dimensions) then
        raise exception 'embedding set % cannot have codes', set_id using
            errcode = '55000', detail = format('Its vectors have %s dimensions; codes are of 32 to 1,920.', indexed.dimensions);
    end if;
    perform salesai.check_index_is_idle(set_id);
    perform salesai.create_embedding_codes(set_id);
    coded := salesai.code_embeddings(set_id);
    execute format('drop index if exists salesai.%I', 'embedding_' || set_id || '_index');
    return coded;
end
$$;
comment on function salesai.use_embedding_codes(bigint) is
    'Gives an embedding set codes in the place of its HNSW index, in one transaction, at whose end the index goes: repeat it when a long query held that. Writers of chunks wait meanwhile. Returns how many vectors';

create function salesai.active_embedding_set(model text, model_sha256 text, dimensions integer) returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    active salesai.embedding_set;
begin
    select * into active from salesai.embedding_set where state = 'active';
    if not found then
        perform salesai.switch_embedding_set(salesai.create_embedding_set(model, model_sha256, dimensions));
        select * into active from salesai.embedding_set where state = 'active';
    end if;
    if active.model_sha256 <> model_sha256 then
        raise exception 'the sidecar''s embedding model is not the one of the active embedding set' using
            errcode = '55000',
            detail = format('The set was made by "%s" (%s), the sidecar runs "%s" (%s).',
                            active.model, left(active.model_sha256, 12), model, left(model_sha256, 12)),
            hint = 'Start the sidecar with the weights of the active set. To change to others, serve them under a name of their own and call salesai.reembed.';
    end if;
    return active.id;
end
$$;
comment on function salesai.active_embedding_set(text, text, integer) is
    'Id of the active set, made on first use, for which the caller holds the lock alone; an error when it was made by other weights';

create function salesai.switch_embedding_set(set_id bigint) returns void
language sql security definer
set search_path = pg_catalog, pg_temp
as $$
    update salesai.embedding_set s set state = 'retired' where s.state = 'active' and s.id <> set_id;
    update salesai.embedding_set s
    set state = 'active', activated_at = now(), switch_when_complete = false where s.id = set_id;
$$;
comment on function salesai.switch_embedding_set(bigint) is 'Makes this set the one that search uses; the caller holds the lock and has checked that the set is complete';

create function salesai.missing_embeddings(set_id bigint) returns setof bigint
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return query execute format(
        'select c.id from salesai.chunk c where not exists (select from salesai.%I e where e.chunk_id = c.id) order by c.id',
        'embedding_' || set_id);
end
$$;
comment on function salesai.missing_embeddings(bigint) is 'Chunks that have no embedding in this set';

-- 256 chunks a job: a few requests to the sidecar, and few jobs for many chunks.
create function salesai.enqueue_missing_embeddings(set_id bigint) returns bigint
language sql security definer
set search_path = pg_catalog, pg_temp
as $$
    update salesai.embedding_set s set filling_since = now(), filled_before = salesai.embedding_count(s.id) where s.id = set_id;
    -- After all others: it waits for them.
    insert into salesai.job (kind, version, lane, embedding_set_id)
    select 'build_index', 0, 'maintenance', set_id
    where not exists (select from salesai.job j where j.embedding_set_id = set_id and j.kind = 'build_index');
    select salesai.wake_worker();
    with queued as (
        insert into salesai.job (kind, version, lane, embedding_set_id, first_chunk_id, last_chunk_id)
        select 'embed', 0, 'background', set_id, min(m.id), max(m.id)
        from salesai.missing_embeddings(set_id) with ordinality m (id, number)
        group by (m.number - 1) / 256
        order by min(m.id)
        returning id)
    select count(*) from queued;
$$;
comment on function salesai.enqueue_missing_embeddings(bigint) is 'Queues what an embedding set lacks, and its index after that; returns how many ranges of chunks';

-- Writers of chunks queue behind who waits for the lock alone, here and below: so nobody waits for it long.
create function salesai.reembed(model text default null, template text default null, activate boolean default true) returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '5s'
as $$
declare
    served jsonb;
    building salesai.embedding_set;
    unknown text;
    set_id bigint;
begin
    select p[1] into unknown from regexp_matches(template, '\{([^{}]*)\}', 'g') p
    where p[1] not in ('heading', 'date', 'kind', 'content');
    if unknown is not null or position('{content}' in template) = 0 then
        raise exception 'bad template' using errcode = '22023',
            detail = coalesce(format('It has the unknown placeholder {%s}.', unknown), 'It lacks {content}.'),
            hint = 'Use {heading}, {date}, {kind} and {content}.';
    end if;
    served := salesai.served_embedding_model(model);
    perform salesai.lock_embedding_sets(alone => true);
    select * into building from salesai.embedding_set s where s.state in ('building', 'ready');
    if found then
        raise exception 'embedding set % is not done', building.id using errcode = '55000',
            detail = format('It is %s, of model "%s".', building.state, building.model),
            hint = format('Wait until it is active, or drop it: select salesai.drop_embedding_set(%s).', building.id);
    end if;
    set_id := salesai.create_embedding_set(
        served ->> 'name', served ->> 'sha256', (served ->> 'dimensions')::integer, template, indexed => false);
    update salesai.embedding_set s set switch_when_complete = activate where s.id = set_id;
    perform salesai.enqueue_missing_embeddings(set_id);
    return set_id;
end
$$;
comment on function salesai.reembed(text, text, boolean) is
    'Embeds everything anew, by the sidecar''s default embedding model or the one named, while the active set serves; when the new set is complete and indexed, one transaction makes it active (activate => false: it waits as "ready"). Returns its id; salesai.embedding_sets shows how far it is, salesai.activate_embedding_set goes back';

create function salesai.served_embedding_model(model text) returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    sidecar jsonb := salesai.sidecar_state();
    served jsonb;
begin
    if sidecar ->> 'error' is not null then
        raise exception '%', sidecar ->> 'error' using errcode = '58000';
    end if;
    select m into served from jsonb_array_elements(sidecar -> 'models') m
    where m ->> 'kind' = 'embedding' and case when model is null then (m ->> 'is_default')::boolean else m ->> 'name' = model end;
    if served is null then
        raise exception 'the sidecar serves no embedding model%', coalesce(format(' "%s"', model), '') using
            errcode = '42704', hint = 'salesai.sidecar_status lists what it has.';
    end if;
    return served;
end
$$;
comment on function salesai.served_embedding_model(text) is 'What the sidecar says of an embedding model, of the default one for NULL; an error when it serves none';

create function salesai.locked_embedding_set(set_id bigint) returns salesai.embedding_set
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    wanted salesai.embedding_set;
begin
    perform salesai.lock_embedding_sets(alone => true);
    select * into wanted from salesai.embedding_set s where s.id = set_id;
    if not found then
        raise exception 'embedding set % does not exist', set_id using errcode = 'P0002',
            hint = 'salesai.embedding_sets lists them.';
    end if;
    return wanted;
end
$$;
comment on function salesai.locked_embedding_set(bigint) is 'An embedding set, and the lock on which there are; P0002 when it does not exist';

-- Gaps: chunks that the set's model refuses. Dense search does not find them in it; lexical search does.
create function salesai.activate_embedding_set(set_id bigint, accept_gaps boolean default false) returns text
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '5s'
as $$
declare
    wanted constant salesai.embedding_set := salesai.locked_embedding_set(set_id);
    -- What a retired set lacks is what came since: that is embedded first.
    accepts constant boolean := accept_gaps and wanted.state <> 'retired';
begin
    if wanted.state = 'active' then
        return wanted.state;
    end if;
    if accepts then
        delete from salesai.job_error e using salesai.job j
        where j.embedding_set_id = set_id and j.kind = 'embed' and j.state = 'failed' and e.job_id = j.id;
        delete from salesai.job j where j.embedding_set_id = set_id and j.kind = 'embed' and j.state = 'failed';
    end if;
    if salesai.embedding_index_steps(set_id) = '{}' and (
        not exists (select from salesai.missing_embeddings(set_id))
        or accepts and not exists (select from salesai.job j where j.embedding_set_id = set_id and j.kind = 'embed')) then
        delete from salesai.job j where j.embedding_set_id = set_id;
        perform salesai.switch_embedding_set(set_id);
        return 'active';
    end if;
    update salesai.embedding_set s set state = 'building', switch_when_complete = true where s.id = set_id;
    if accepts and exists (select from salesai.job j where j.embedding_set_id = set_id) then
        -- It goes on without what failed: its index waits for nothing else.
        update salesai.job j set not_before = now() where j.embedding_set_id = set_id and j.state = 'pending';
        perform salesai.wake_worker();
        return 'building';
    end if;
    -- Jobs that are under way fail to find themselves, and what they did counts.
    delete from salesai.job j where j.embedding_set_id = set_id;
    perform salesai.enqueue_missing_embeddings(set_id);
    return 'building';
end
$$;
comment on function salesai.activate_embedding_set(bigint, boolean) is
    'Makes this set the one that search uses: at once when it is complete, else as soon as the chunks that it lacks are embedded. Returns its state then: active or building. Goes back to a retired set as well. accept_gaps: without the chunks that its model refused';

create function salesai.drop_embedding_set(set_id bigint) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '5s'
as $$
declare
    dropped constant salesai.embedding_set := salesai.locked_embedding_set(set_id);
begin
    if dropped.state = 'active' then
        raise exception 'embedding set % is active', set_id using errcode = '55006',
            hint = 'Make another one active first.';
    end if;
    -- The drop would wait for it, and all who write chunks for the drop.
    perform salesai.check_index_is_idle(set_id);
    delete from salesai.job_error e using salesai.job j where j.embedding_set_id = set_id and e.job_id = j.id;
    delete from salesai.embedding_set s where s.id = set_id;
    delete from salesai.embedding_delta d where d.set_id = drop_embedding_set.set_id;
    execute format('drop table if exists salesai.%I, salesai.%I', 'embedding_' || set_id || '_codes', 'embedding_' || set_id);
end
$$;
comment on function salesai.drop_embedding_set(bigint) is 'Deletes a set that is not active, with its vectors and jobs';

-- Owner rights: these columns of other roles' sessions are hidden.
create function salesai.index_build_progress(table_name text) returns real
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
    -- Most of the time goes into the graph; then it is compared with what changed meanwhile.
    select (case when p.phase not like 'building%' and p.phase like '%valid%' then 0.95
                 else 0.9 * greatest(p.blocks_done::real / nullif(p.blocks_total, 0), p.tuples_done::real / nullif(p.tuples_total, 0), 0)
            end)::real
    from pg_stat_progress_create_index p
    where p.datname = current_database() and p.relid = to_regclass(format('salesai.%I', table_name))
    limit 1
$$;
comment on function salesai.index_build_progress(text) is 'Share of an index build that is done; NULL when none runs';

create function salesai.check_index_is_idle(set_id bigint) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if salesai.index_build_progress('embedding_' || set_id) is not null then
        raise exception 'the index of embedding set % is being built', set_id using errcode = '55006',
            hint = 'Wait for it, or end the index builder: select pg_terminate_backend(pid) from pg_stat_activity where backend_type = ''pg_salesai index builder''.';
    end if;
end
$$;
comment on function salesai.check_index_is_idle(bigint) is 'An error while the index of an embedding set is being built';

create function salesai.embedding_count(set_id bigint) returns bigint
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    counted bigint;
begin
    execute format('select count(*) from salesai.%I', 'embedding_' || set_id) into counted;
    return counted;
end
$$;
comment on function salesai.embedding_count(bigint) is 'Vectors in an embedding set';
