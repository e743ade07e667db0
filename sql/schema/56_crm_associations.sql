-- Which record belongs to which, where a source says so in records of their own (HubSpot).

create function salesai.crm_association(shape text, record jsonb) returns jsonb
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
    select case shape when 'plain' then record else jsonb_strip_nulls(jsonb_build_object(
        'activity', f ->> 'engagementid', 'account', coalesce(f ->> 'companyid', f ->> 'accountid'),
        'opportunity', coalesce(f ->> 'dealid', f ->> 'opportunityid'), 'contact', f ->> 'contactid',
        -- HubSpot's own types of a primary company: contact to company, the other way round, deal to company and back. An
        -- engagement has none. Each label is a row beside, whose end is not that of the association.
        'primary', f ? 'engagementid' or f ->> 'typeid' in ('1', '2', '5', '6'),
        'deleted', coalesce(f ->> 'isdeleted', f ->> 'fivetrandeleted'))) end
    from (select salesai.crm_fields(record) as f) fields
$$;
comment on function salesai.crm_association(text, jsonb) is
    'A row of Fivetran''s exports of HubSpot''s associations (DEAL_COMPANY, ENGAGEMENT_DEAL and the like) in the fields of salesai.ingest_crm';

-- Whose an interaction is decides who sees it.
create function salesai.place_interaction(interaction_id bigint, account_id bigint, opportunity_id bigint) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    place salesai.interaction;
begin
    select i.* into place from salesai.interaction i where i.id = interaction_id for update;
    if account_id is null and place.account_id is not null then
        place.owner_rep_id := null;
        place.team_id := null;
    elsif account_id is not null then
        select a.owner_rep_id, a.team_id into place.owner_rep_id, place.team_id from salesai.account a where a.id = account_id;
    end if;
    update salesai.interaction i
    set account_id = $2, opportunity_id = $3, owner_rep_id = place.owner_rep_id, team_id = place.team_id
    where i.id = $1 and (i.account_id, i.opportunity_id, i.owner_rep_id, i.team_id) is distinct from ($2, $3, place.owner_rep_id, place.team_id);
    if not found then
        return false;
    end if;
    update salesai.chunk c
    set account_id = $2, opportunity_id = $3, owner_rep_id = place.owner_rep_id, team_id = place.team_id
    where c.interaction_id = $1;
    -- Chunks are headed by their account and opportunity.
    perform salesai.enqueue(interaction_id, place.version, 'background');
    return true;
end
$$;
comment on function salesai.place_interaction(bigint, bigint, bigint) is
    'Gives an interaction and its chunks to an account, its owner and an opportunity, or takes it from them; false when nothing changes';

create function salesai.ingest_crm_association(source text, record jsonb) returns table (id bigint, outcome text)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    account constant bigint := salesai.external_reference('account', source, record ->> 'account');
    opportunity constant bigint := salesai.external_reference('opportunity', source, record ->> 'opportunity');
    contact constant bigint := salesai.external_reference('contact', source, record ->> 'contact');
    is_deleted constant boolean := coalesce((record ->> 'deleted')::boolean, false);
    -- One of several, which takes nobody's place.
    is_secondary constant boolean := not coalesce((record ->> 'primary')::boolean, true);
    owned constant text := case when opportunity is not null then 'opportunity' else 'contact' end;
    activity salesai.interaction;
    known bigint;
    wanted bigint;
    has_changed boolean := false;
begin
    if record ? 'activity' and coalesce(account, opportunity, contact) is not null then
        select i.* into activity from salesai.interaction i
        where i.source = $1 and i.external_id = record ->> 'activity' and i.kind = 'crm_activity' for update;
        if not found then
            raise exception 'record names an unknown activity' using errcode = 'P0002', hint = 'Load activities first.';
        end if;
        id := activity.id;
        if is_deleted then
            -- What came with the deal goes with it.
            has_changed := salesai.place_interaction(id,
                case when opportunity = activity.opportunity_id
                         and activity.account_id = (select o.account_id from salesai.opportunity o where o.id = opportunity) then null
                     else nullif(activity.account_id, account) end,
                nullif(activity.opportunity_id, opportunity));
            if contact is not null then
                update salesai.participant p set contact_id = null where p.interaction_id = activity.id and p.contact_id = contact;
                has_changed := has_changed or found;
            end if;
        else
            if contact is not null and not exists (
                select from salesai.participant p where p.interaction_id = activity.id and p.contact_id = contact) then
                perform salesai.store_participants(activity.id, (
                    select jsonb_build_array(jsonb_build_object('name', c.name, 'email', c.email, 'side', 'external'))
                    from salesai.contact c where c.id = contact));
                -- A colleague who is a contact too stays a colleague.
                has_changed := exists (
                    select from salesai.participant p where p.interaction_id = activity.id and p.contact_id = contact);
            end if;
            has_changed := salesai.place_interaction(activity.id,
                coalesce(case when is_secondary then activity.account_id end, account, activity.account_id,
                    (select o.account_id from salesai.opportunity o where o.id = opportunity)),
                coalesce(case when is_secondary then activity.opportunity_id end, opportunity, activity.opportunity_id)) or has_changed;
        end if;
    elsif account is not null and coalesce(opportunity, contact) is not null then
        id := coalesce(opportunity, contact);
        execute format('select t.account_id from salesai.%I t where t.id = $1 for no key update', owned) into known using id;
        wanted := case
            when is_deleted and is_secondary then known
            when is_deleted then nullif(known, account)
            when is_secondary then coalesce(known, account)
            else account end;
        has_changed := known is distinct from wanted;
        if has_changed then
            execute format('update salesai.%I t set account_id = $2, updated_at = now() where t.id = $1', owned) using id, wanted;
            -- What was logged of the deal is its account's.
            perform salesai.place_interaction(i.id, wanted, opportunity)
            from (select i.id from salesai.interaction i
                  where i.opportunity_id = opportunity and i.kind = 'crm_activity' and i.account_id is not distinct from known
                  order by i.id for update of i) i;
        end if;
    else
        raise exception 'an association needs "activity" and what it belongs to, or "account" and "opportunity" or "contact"' using
            errcode = '22023', hint = 'Which contacts an opportunity has is not kept.';
    end if;
    outcome := case when has_changed then 'updated' else 'unchanged' end;
    return next;
end
$$;
comment on function salesai.ingest_crm_association(text, jsonb) is 'Stores which account, opportunity or contact a record belongs to; use salesai.ingest_crm';

