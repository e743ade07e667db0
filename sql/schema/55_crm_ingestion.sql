-- CRM records: one upsert per record, each in its own subtransaction, so that a bad one blocks no other.

create function salesai.external_reference(kind text, source text, external_id text) returns bigint
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    id bigint;
begin
    if external_id is null then
        return null;
    end if;
    execute format('select t.id from salesai.%I t where t.source = $1 and t.external_id = $2', kind)
        into id using source, external_id;
    if id is null then
        raise exception 'record names an unknown %', kind using
            errcode = 'P0002', hint = format('Load %ss first.', kind);
    end if;
    return id;
end
$$;
comment on function salesai.external_reference(text, text, text) is 'Id of a team, rep, account or contact by its external id';

-- Columns of each kind: how a record's fields are taken over. Order: what others refer to comes first.
create function salesai.ingest_crm_record(source text, kind text, record jsonb) returns table (id bigint, outcome text)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    owner_id bigint := salesai.external_reference('rep', $1, record ->> 'owner');
    account_id bigint := case when kind in ('contact', 'opportunity')
        then salesai.external_reference('account', $1, record ->> 'account') end;
    fields jsonb;
    sets text;
    names text;
    record_id bigint;
    is_new boolean;
    team_id bigint := salesai.external_reference('team', $1, record ->> 'team');
begin
    if team_id is null and kind in ('account', 'opportunity') then
        select min(m.team_id) into team_id from salesai.team_member m where m.rep_id = owner_id;
    end if;
    fields := jsonb_build_object('name', record -> 'name', 'properties', record, 'source_updated_at', record -> 'updated_at')
        || case kind
            when 'team' then '{}'
            when 'rep' then jsonb_build_object('email', record -> 'email')
            when 'account' then jsonb_build_object('domain', record -> 'domain', 'industry', record -> 'industry',
                'owner_rep_id', owner_id, 'team_id', team_id)
            when 'contact' then jsonb_build_object('account_id', account_id, 'email', record -> 'email', 'title', record -> 'title')
            when 'opportunity' then jsonb_build_object('account_id', account_id, 'stage', record -> 'stage',
                'amount', record -> 'amount', 'currency', record -> 'currency', 'close_date', record -> 'close_date',
                'owner_rep_id', owner_id, 'team_id', team_id)
        end;
    select string_agg(format('%I', f), ', '), string_agg(format('%I = excluded.%1$I', f), ', ')
    into names, sets from jsonb_object_keys(fields) f;
    -- Field names come from the list above, never from the record; values are bound.
    execute format(
        'insert into salesai.%I as t (source, external_id, %s)
         select $1, $2, %2$s from jsonb_populate_record(null::salesai.%1$I, $3)
         on conflict (source, external_id) do update set %3$s, updated_at = now()
             where t.properties is distinct from excluded.properties
         returning t.id, xmax = 0', kind, names, sets)
        into record_id, is_new using $1, record ->> 'external_id', fields;
    if record_id is null then
        return query execute format('select t.id, ''unchanged'' from salesai.%I t where t.source = $1 and t.external_id = $2', kind)
            using $1, record ->> 'external_id';
        return;
    end if;
    if kind = 'rep' then
        delete from salesai.team_member m where m.rep_id = record_id and m.team_id is distinct from team_id;
        insert into salesai.team_member (rep_id, team_id)
            select record_id, team_id where team_id is not null on conflict do nothing;
    elsif kind = 'opportunity' then
        insert into salesai.opportunity_stage_history (opportunity_id, stage, entered_at)
            select record_id, h ->> 'stage', (h ->> 'entered_at')::timestamptz
            from jsonb_array_elements(coalesce(record -> 'stage_history', '[]')) h
            on conflict do nothing;
    end if;
    return query select record_id, case when is_new then 'inserted' else 'updated' end;
end
$$;
comment on function salesai.ingest_crm_record(text, text, jsonb) is 'Upserts one CRM record; use salesai.ingest_crm';

create function salesai.ingest_crm(source text, kind text, records jsonb)
returns table (external_id text, id bigint, outcome text)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    record jsonb;
begin
    if kind is null or kind not in ('team', 'rep', 'account', 'contact', 'opportunity') then
        raise exception 'unknown kind of CRM record "%"', kind using
            errcode = '22023', hint = 'Use team, rep, account, contact or opportunity.';
    end if;
    if source is null or source = '' then
        raise exception 'source must not be empty' using errcode = '22023';
    end if;
    if records is null or jsonb_typeof(records) <> 'array' then
        raise exception 'records must be a JSON array' using errcode = '22023';
    end if;
    for record in select value from jsonb_array_elements(records) loop
        begin
            external_id := case when jsonb_typeof(record) = 'object' then record ->> 'external_id' end;
            if coalesce(external_id, '') = '' or coalesce(record ->> 'name', '') = '' then
                raise exception 'a record needs "external_id" and "name"' using errcode = '22023';
            end if;
            select r.id, r.outcome into id, outcome from salesai.ingest_crm_record(source, kind, record) r;
        exception
            when data_exception or integrity_constraint_violation or no_data_found then
                id := null;
                outcome := 'rejected: ' || sqlerrm;
        end;
        return next;
    end loop;
end
$$;
comment on function salesai.ingest_crm(text, text, jsonb) is
    'Upserts CRM records (kind: team, rep, account, contact, opportunity) by external_id. outcome: inserted, updated, unchanged, or "rejected: ..." for a bad record, which blocks no other. Fields: name; team: -; rep: email, team; account: domain, industry, owner; contact: account, email, title; opportunity: account, owner, stage, amount, currency, close_date, stage_history';

-- Rights follow the account's owner.
create function salesai.carry_account_owner() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    update salesai.interaction set owner_rep_id = new.owner_rep_id, team_id = new.team_id where account_id = new.id;
    update salesai.chunk set owner_rep_id = new.owner_rep_id, team_id = new.team_id where account_id = new.id;
    return null;
end
$$;
comment on function salesai.carry_account_owner() is 'Carries a new owner or team of an account to its interactions and chunks';
create trigger carry_account_owner after update of owner_rep_id, team_id on salesai.account
    for each row when (old.owner_rep_id is distinct from new.owner_rep_id or old.team_id is distinct from new.team_id)
    execute function salesai.carry_account_owner();
