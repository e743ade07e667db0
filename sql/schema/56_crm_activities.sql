-- What a CRM logs of the work of its users (tasks, events, calls, e-mails, notes), as interactions.

create function salesai.crm_activity(shape text, record jsonb) returns jsonb
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
    select case shape when 'plain' then record else jsonb_strip_nulls(case shape
        -- The first three characters of an id say what it names.
        when 'salesforce' then jsonb_build_object(
            'external_id', f ->> 'id', 'type', lower(coalesce(f ->> 'eventsubtype', f ->> 'tasksubtype', f ->> 'type')),
            'subject', f ->> 'subject', 'body', f ->> 'description',
            'occurred_at', coalesce(f ->> 'activitydatetime', f ->> 'startdatetime', f ->> 'activitydate', f ->> 'createddate'),
            'account', coalesce(f ->> 'accountid', case when f ->> 'whatid' like '001%' then f ->> 'whatid' end),
            'opportunity', case when f ->> 'whatid' like '006%' then f ->> 'whatid' end,
            'contact', case when f ->> 'whoid' like '003%' then f ->> 'whoid' end, 'owner', f ->> 'ownerid',
            'updated_at', coalesce(f ->> 'lastmodifieddate', f ->> 'systemmodstamp', f ->> 'fivetransynced'),
            'deleted', coalesce(f ->> 'isdeleted', f ->> 'fivetrandeleted'))
        when 'hubspot' then jsonb_build_object(
            'external_id', coalesce(f ->> 'id', f ->> 'engagementid', f ->> 'hsobjectid'), 'type', lower(f ->> 'type'),
            'subject', coalesce(f ->> 'title', f ->> 'hsmeetingtitle', f ->> 'meetingtitle', f ->> 'hscalltitle', f ->> 'calltitle',
                f ->> 'hstasksubject', f ->> 'tasksubject', f ->> 'hsemailsubject', f ->> 'emailsubject'),
            'body', coalesce(f ->> 'body', f ->> 'hsnotebody', f ->> 'notebody', f ->> 'hscallbody', f ->> 'callbody',
                f ->> 'hsmeetingbody', f ->> 'meetingbody', f ->> 'hstaskbody', f ->> 'taskbody', f ->> 'hsemailtext', f ->> 'emailtext'),
            'occurred_at', coalesce(f ->> 'hstimestamp', f ->> 'timestamp', f ->> 'starttime', f ->> 'createdat', f ->> 'createdate'),
            'account', record #>> '{associations,companies,results,0,id}', 'keeps_account', record #> '{associations,companies}' is null,
            'keeps_opportunity', record #> '{associations,deals}' is null,
            'opportunity', record #>> '{associations,deals,results,0,id}',
            'contact', record #>> '{associations,contacts,results,0,id}', 'owner', f ->> 'hubspotownerid',
            'updated_at', coalesce(f ->> 'hslastmodifieddate', f ->> 'lastmodifieddate', f ->> 'updatedat', f ->> 'fivetransynced'),
            'deleted', coalesce(f ->> 'archived', f ->> 'fivetrandeleted'))
        end) end
    from (select salesai.crm_fields(record) as f) fields
$$;
comment on function salesai.crm_activity(text, jsonb) is
    'An activity of Salesforce (Task, Event) or HubSpot (engagement), as their APIs or Fivetran''s exports give it, in the fields of salesai.ingest_crm';

create function salesai.ingest_crm_activity(source text, record jsonb) returns table (id bigint, outcome text)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    external_id constant text := record ->> 'external_id';
    changed_at timestamptz := record ->> 'updated_at';
    is_deleted constant boolean := coalesce((record ->> 'deleted')::boolean, false);
    -- One that was deleted is a version without a text, which keeps older copies out.
    body constant text := case when is_deleted then '' else coalesce(nullif(record ->> 'body', ''), record ->> 'subject', '') end;
    known salesai.interaction;
    place salesai.interaction;
    named_opportunity bigint;
    has_moved boolean := false;
    people jsonb;
begin
    if coalesce(external_id, '') = '' or body !~ '\S' and not is_deleted then
        raise exception 'an activity needs "external_id" and "subject" or "body"' using errcode = '22023';
    end if;
    select i.* into known from salesai.interaction i
    where i.source = $1 and i.external_id = record ->> 'external_id' and i.kind = 'crm_activity';
    if is_deleted then
        changed_at := coalesce(changed_at, greatest(now(), (known.properties ->> 'updated_at')::timestamptz));
    end if;
    if changed_at < (known.properties ->> 'updated_at')::timestamptz then
        return query values (known.id, 'stale');
        return;
    end if;
    -- Leads, groups and who left are in no export of users and contacts.
    select coalesce(jsonb_agg(p.person), '[]') into people from (
        select jsonb_build_object('name', r.name, 'email', r.email, 'side', 'internal') as person
        from salesai.rep r where r.source = $1 and r.external_id = record ->> 'owner'
        union all
        select jsonb_build_object('name', c.name, 'email', c.email, 'side', 'external')
        from salesai.contact c where c.source = $1 and c.external_id = record ->> 'contact') p;
    id := salesai.store_interaction(
        jsonb_build_object(
            'kind', 'crm_activity', 'source', source, 'external_id', external_id,
            'occurred_at', coalesce((record ->> 'occurred_at')::timestamptz, known.occurred_at, changed_at, now()),
            'subject', case when not is_deleted then record ->> 'subject' end,
            'properties', jsonb_strip_nulls(jsonb_build_object('type', record -> 'type', 'updated_at', changed_at, 'deleted', is_deleted)),
            'participants', people, 'media_type', case when body ~* '</?(a|b|br|body|div|em|h[1-6]|html|i|li|ol|p|span|strong|table|td|tr|u|ul)(\s[^<>]*)?/?>' then 'text/html' else 'text/plain' end,
            'lane', 'background'),
        convert_to(body, 'UTF8'));
    select i.* into place from salesai.interaction i where i.id = ingest_crm_activity.id for update;
    if changed_at < (place.properties ->> 'updated_at')::timestamptz then
        -- A newer copy was stored meanwhile.
        return query values (place.id, 'stale');
        return;
    end if;
    if changed_at is distinct from (place.properties ->> 'updated_at')::timestamptz then
        update salesai.interaction i set properties = i.properties || jsonb_build_object('updated_at', coalesce(changed_at, now()))
        where i.id = place.id;
    end if;
    -- The references of one that is gone may be gone too.
    if not is_deleted then
        named_opportunity := salesai.external_reference('opportunity', $1, record ->> 'opportunity');
        place.account_id := coalesce(salesai.external_reference('account', $1, record ->> 'account'),
            (select o.account_id from salesai.opportunity o where o.id = named_opportunity),
            case when (record -> 'keeps_account')::boolean then place.account_id end);
        place.opportunity_id := coalesce(named_opportunity,
            case when (record -> 'keeps_opportunity')::boolean then place.opportunity_id end);
        has_moved := salesai.place_interaction(place.id, place.account_id, place.opportunity_id) and known.id is not null;
    end if;
    outcome := case
        when is_deleted and known.id is not null and not coalesce((known.properties ->> 'deleted')::boolean, false) then 'deleted'
        when is_deleted then 'unchanged'
        when known.id is null then 'inserted'
        when known.version = place.version and not has_moved then 'unchanged'
        else 'updated'
    end;
    return next;
end
$$;
comment on function salesai.ingest_crm_activity(text, jsonb) is 'Stores one activity of a CRM; use salesai.ingest_crm';
