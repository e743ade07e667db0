-- Prompt templates: what a model is told to do, as versions with a test set. Version 1 of a task is built into the library
-- (domain/src/prompt_template.rs); rows are those that somebody made. What fences the data is no part of a template.

create function salesai.prompt_tasks() returns text[]
language c immutable parallel safe as 'MODULE_PATHNAME', 'prompt_tasks_wrapper';
comment on function salesai.prompt_tasks() is 'Tasks that have prompt templates';

create function salesai.built_in_prompt(task text) returns text
language c immutable strict parallel safe as 'MODULE_PATHNAME', 'built_in_prompt_wrapper';
comment on function salesai.built_in_prompt(text) is 'Text of version 1 of a task''s prompt template';

create function salesai.check_prompt_template(task text, text text) returns void
language c immutable parallel safe as 'MODULE_PATHNAME', 'check_prompt_template_wrapper';
comment on function salesai.check_prompt_template(text, text) is
    'Refuses a text that is no prompt template of the task: one that is blank or above 8 KiB, that has other placeholders than the task''s or not each once, or marks that could be taken for those around data';

create table salesai.prompt_template (
    task text not null check (task = any (salesai.prompt_tasks())),
    version integer not null check (version > 1),
    model text,
    text text not null,
    state text not null default 'draft' check (state in ('draft', 'active', 'retired')),
    note text,
    created_by text not null,
    created_at timestamptz not null default now(),
    activated_by text,
    activated_at timestamptz,
    is_forced boolean,
    replaced_version integer,
    primary key (task, version),
    check ((state = 'draft') = (activated_at is null))
);
create unique index prompt_template_active_index on salesai.prompt_template (task, model) nulls not distinct where state = 'active';
comment on table salesai.prompt_template is
    'Prompt templates that somebody made; the built-in ones, version 1 of each task, are in salesai.prompt_templates as well. The active one for the model that is asked goes before the active one for any model, that before the built-in one';
comment on column salesai.prompt_template.model is 'The model that it is for; NULL for any';
comment on column salesai.prompt_template.is_forced is 'Whether it was last activated without a test of it as it stood then';
comment on column salesai.prompt_template.replaced_version is 'What was active before it, for the same model: where salesai.prompt_template_rollback goes; NULL: nothing of its own';

create table salesai.prompt_template_case (
    id bigint generated always as identity primary key,
    task text not null check (task = any (salesai.prompt_tasks())),
    model text,
    documents text[] not null,
    arguments jsonb not null default '{}',
    expectation text not null check (expectation in ('equals', 'contains', 'cites', 'abstains')),
    expected jsonb,
    note text,
    check (cardinality(documents) between 1 and 50 and array_position(documents, null) is null),
    check (case task when 'insight' then coalesce(arguments ->> 'question', '') ~ '\S'
           else cardinality(documents) = 1 and expectation in ('equals', 'contains') end),
    check ((expectation = 'abstains') = (expected is null)),
    -- What every answer has shows nothing.
    check (expectation not in ('contains', 'cites') or expected not in ('[]', '""'))
);
comment on table salesai.prompt_template_case is
    'Test sets of prompt templates; administrators write them. A case without a model is for all templates of the task';
comment on column salesai.prompt_template_case.documents is 'What is asked about: one document, or for insight up to 50, which are its evidence, numbered from 1';
comment on column salesai.prompt_template_case.arguments is 'Of the operator, as salesai.apply_operator has them; for insight {question}';
comment on column salesai.prompt_template_case.expectation is
    'equals: the value is expected, NULL being null; contains: the text has expected, or each text of an array, in any case; for insight also cites: expected is the number of a document that is cited, or an array of them; abstains: there is no answer';

create table salesai.prompt_template_run (
    id bigint generated always as identity primary key,
    task text not null,
    version integer not null,
    compared_version integer not null,
    model text not null,
    model_sha256 text,
    adapter text,
    adapter_generation bigint,
    cases_sha256 bytea not null,
    cases integer not null,
    passed_before integer not null,
    passed integer not null,
    changed integer not null,
    results jsonb not null,
    run_by text not null,
    run_at timestamptz not null default now(),
    foreign key (task, version) references salesai.prompt_template on delete cascade
);
create index prompt_template_run_template_index on salesai.prompt_template_run (task, version);
comment on table salesai.prompt_template_run is 'Runs of salesai.prompt_template_test, which salesai.prompt_template_activate asks for; only administrators see them';
comment on column salesai.prompt_template_run.compared_version is 'What was active then';
comment on column salesai.prompt_template_run.cases_sha256 is 'Of the test set as it was';

-- Documents of customers, and what models said of them.
alter table salesai.prompt_template_case enable row level security, force row level security;
create policy admin on salesai.prompt_template_case to salesai_admin using (true);
alter table salesai.prompt_template_run enable row level security, force row level security;
create policy admin on salesai.prompt_template_run to salesai_admin using (true);

create type salesai.prompt_template_result as (
    case_id bigint, expectation text, expected jsonb, before jsonb, after jsonb, passed_before boolean, passed boolean,
    differs boolean, error text);
comment on type salesai.prompt_template_result is 'What became of a test case: before, by the template that is active, after, by the one that is tested';

create type salesai.prompt_template_activation as (
    task text, version integer, replaced_version integer, cases integer, passed_before integer, passed integer, changed integer,
    is_forced boolean);
comment on type salesai.prompt_template_activation is
    'What an activation changed: the version that is asked by and the one that was, cases of the test set, those that passed by the version that was active and by the new one, and those with another answer; NULL where no test stands for it';

create function salesai.active_prompt_version(task text, model text) returns integer
language sql stable parallel safe
set search_path = pg_catalog, pg_temp
as $$
    select coalesce((select t.version from salesai.prompt_template t
                     where t.task = $1 and t.state = 'active' and (t.model = $2 or t.model is null)
                     order by t.model nulls last limit 1), 1)
$$;
comment on function salesai.active_prompt_version(text, text) is
    'The version of a task''s prompt template that a model is asked by: the active one for it, else the active one for any model, else the built-in one, 1';

create view salesai.prompt_templates with (security_invoker = true) as
select t.task, t.version, t.model, t.state, t.text, t.note, t.created_by, t.created_at, t.activated_by, t.activated_at, t.is_forced
from salesai.prompt_template t
union all
select b.task, 1, null, case salesai.active_prompt_version(b.task, null) when 1 then 'active' else 'retired' end,
    salesai.built_in_prompt(b.task), 'built in', null, null, null, null, null
from unnest(salesai.prompt_tasks()) b (task);
comment on view salesai.prompt_templates is 'All prompt templates, with the built-in ones as version 1';

create function salesai.prompt_template_create(task text, text text, model text default null, note text default null) returns integer
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    created integer;
begin
    perform salesai.check_prompt_template(task, text);
    lock table salesai.prompt_template_case in share row exclusive mode;
    insert into salesai.prompt_template (task, version, model, text, note, created_by)
    select prompt_template_create.task, coalesce(max(t.version), 1) + 1, prompt_template_create.model, prompt_template_create.text,
        prompt_template_create.note, salesai.current_role_name()
    from salesai.prompt_template t where t.task = prompt_template_create.task
    returning version into created;
    return created;
end
$$;
comment on function salesai.prompt_template_create(text, text, text, text) is
    'Stores a draft of a prompt template and returns its version of the task. text: the instructions, with a placeholder for what the caller names ({labels} of classify, {statement} of is_true, {fields} of extract, {instruction} of agg; {{ and }} for braces). model: NULL for any. Nothing changes before salesai.prompt_template_activate';

create function salesai.known_prompt_template(task text, version integer) returns salesai.prompt_template
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    known salesai.prompt_template;
begin
    select * into known from salesai.prompt_template t
    where t.task = known_prompt_template.task and t.version = known_prompt_template.version;
    if known.task is null then
        raise exception 'prompt template % of "%" does not exist', version, task using errcode = 'P0002',
            detail = case when version = 1 then 'Version 1 is built in.' end,
            hint = 'salesai.prompt_templates lists them; salesai.prompt_template_rollback goes back as far as version 1.';
    end if;
    return known;
end
$$;
comment on function salesai.known_prompt_template(text, integer) is 'A prompt template that somebody made; fails when there is none';

create function salesai.prompt_cases(task text, model text) returns setof salesai.prompt_template_case
language sql stable
set search_path = pg_catalog, pg_temp
as $$ select c.* from salesai.prompt_template_case c where c.task = $1 and (c.model is null or c.model = $2) $$;
comment on function salesai.prompt_cases(text, text) is 'The test set of a task''s prompt templates for a model, or for any';

create function salesai.prompt_cases_digest(task text, model text) returns bytea
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select sha256(convert_to(jsonb_agg(jsonb_build_array(c.id, c.documents, c.arguments, c.expectation, c.expected) order by c.id)::text, 'UTF8'))
    from salesai.prompt_cases(task, model) c
$$;
comment on function salesai.prompt_cases_digest(text, text) is 'SHA-256 of a test set; NULL when it is empty';

create function salesai.case_evidence(documents text[]) returns jsonb
language sql immutable strict parallel safe
set search_path = pg_catalog, pg_temp
as $$
    select jsonb_agg(jsonb_build_object('number', d.number, 'interaction_id', d.number, 'title', 'document', 'occurred_on', '',
        'segments', jsonb_build_array(jsonb_build_object('segment_id', d.number, 'start_char', 0,
            'end_char', length(d.document), 'content', d.document))) order by d.number)
    from unnest(documents) with ordinality d (document, number)
$$;
comment on function salesai.case_evidence(text[]) is 'Documents of a test case as evidence of salesai.answer_question, each with its number as its interaction';

create function salesai.prompt_answers(task text, version integer, case_model text, options jsonb)
returns table (case_id bigint, answer jsonb, cites integer[], error text)
language plpgsql volatile cost 1000000 rows 20
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    by_version constant jsonb := prompt_answers.options || jsonb_build_object('prompt_version', prompt_answers.version);
begin
    if prompt_answers.task = 'insight' then
        return query
        with answered as materialized (
            select c.id, salesai.answer_question(c.arguments ->> 'question', salesai.case_evidence(c.documents),
                by_version || '{"method": "generated", "max_tokens": 64, "seed": 0}') as given
            from salesai.prompt_cases(prompt_answers.task, case_model) c)
        select a.id, to_jsonb(a.given ->> 'answer'),
            array(select distinct (i ->> 'interaction_id')::integer
                  from jsonb_array_elements(coalesce(nullif(a.given -> 'citations', 'null'), '[]')) i order by 1), null::text
        from answered a;
    else
        return query
        select g.ids[a.number], a.value, null::integer[], a.error
        from (select array_agg(c.id order by c.id) as ids, array_agg(c.documents[1] order by c.id) as documents, c.arguments
              from salesai.prompt_cases(prompt_answers.task, case_model) c group by c.arguments) g
        cross join lateral salesai.apply_operator(prompt_answers.task, g.documents, g.arguments, by_version) a;
    end if;
end
$$;
comment on function salesai.prompt_answers(text, integer, text, jsonb) is
    'What a version of a prompt template makes of each case of a test set; documents with the same arguments are asked about together, the likeliest text is taken';

create function salesai.meets_expectation(expectation text, expected jsonb, answer jsonb, cites integer[]) returns boolean
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(case expectation
        when 'equals' then coalesce(answer, 'null') = expected
        when 'contains' then not exists (
            select from jsonb_array_elements_text(case jsonb_typeof(expected) when 'array' then expected else jsonb_build_array(expected) end) part
            where strpos(lower(coalesce(answer #>> '{}', '')), lower(part)) = 0)
        when 'cites' then to_jsonb(cites) @> expected
        when 'abstains' then answer is null end, false)
$$;
comment on function salesai.meets_expectation(text, jsonb, jsonb, integer[]) is 'Whether an answer is what a test case expects';

create function salesai.compare_prompts(
    task text, before_version integer, after_version integer, case_model text, options jsonb) returns setof salesai.prompt_template_result
language sql volatile cost 1000000 rows 20
set search_path = pg_catalog, pg_temp
as $$
    with before as materialized (
        select a.case_id, a.answer, a.cites, a.error from salesai.prompt_answers(task, before_version, case_model, options) a),
    after as materialized (
        select a.case_id, a.answer, a.cites, a.error from salesai.prompt_answers(task, after_version, case_model, options) a)
    select c.id, c.expectation, c.expected, b.answer, a.answer,
        b.error is null and salesai.meets_expectation(c.expectation, c.expected, b.answer, b.cites),
        a.error is null and salesai.meets_expectation(c.expectation, c.expected, a.answer, a.cites),
        (b.answer, b.cites, b.error) is distinct from (a.answer, a.cites, a.error), a.error
    from salesai.prompt_cases(task, case_model) c
    join before b on b.case_id = c.id
    join after a on a.case_id = c.id
    order by c.id
$$;
comment on function salesai.compare_prompts(text, integer, integer, text, jsonb) is 'A test set by two versions of a prompt template';

create function salesai.served_model(model text) returns table (name text, sha256 text)
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
    select m ->> 'name', nullif(m ->> 'sha256', '')
    from salesai.served('models') m
    where m ->> 'kind' = 'language' and case when $1 is null then (m ->> 'is_default')::boolean else m ->> 'name' = $1 end
$$;
comment on function salesai.served_model(text) is 'A language model that the sidecar serves now, NULL for the default one; no row when it does not';

create function salesai.prompt_template_test(task text, version integer, adapter text default null, timeout_ms integer default null)
returns setof salesai.prompt_template_result
language plpgsql volatile cost 1000000 rows 20
set search_path = pg_catalog, pg_temp
as $$
declare
    template constant salesai.prompt_template := salesai.known_prompt_template(task, version);
    test_set constant bytea := salesai.prompt_cases_digest(template.task, template.model);
    context record;
    served record;
    compared integer;
    results salesai.prompt_template_result[];
begin
    if test_set is null then
        raise exception 'prompt template % of "%" has no test set', version, task using errcode = '55000',
            hint = 'Insert cases into salesai.prompt_template_case.';
    end if;
    select * into context from salesai.generation_context(template.model, adapter);
    select * into served from salesai.served_model(coalesce(context.adapter_model, template.model));
    if served.name is null then
        raise exception 'the inference sidecar does not serve the model of this template' using errcode = '42704',
            hint = 'salesai.sidecar_status lists what it serves; salesai.doctor() says whether it can be reached.';
    end if;
    compared := salesai.active_prompt_version(template.task, served.name);
    select array_agg(r) into results
    from salesai.compare_prompts(template.task, compared, template.version, template.model,
        jsonb_strip_nulls(jsonb_build_object('model', template.model, 'adapter', adapter, 'timeout_ms', timeout_ms))) r;
    insert into salesai.prompt_template_run (task, version, compared_version, model, model_sha256, adapter, adapter_generation,
        cases_sha256, cases, passed_before, passed, changed, results, run_by)
    select template.task, template.version, compared, served.name, served.sha256, prompt_template_test.adapter,
        context.adapter_generation, test_set, count(*), count(*) filter (where r.passed_before), count(*) filter (where r.passed),
        count(*) filter (where r.differs), jsonb_agg(to_jsonb(r)), salesai.current_role_name()
    from unnest(results) r;
    return query select r.* from unnest(results) r;
end
$$;
comment on function salesai.prompt_template_test(text, integer, text, integer) is
    'Answers each case of a prompt template''s test set by it and by the version that is active, with its model (the default one where it is for any) and, if one is named, an adapter: both answers, whether they are what is expected, and whether they differ. The run is kept in salesai.prompt_template_run. timeout_ms: for each call of the model';

create function salesai.prompt_template_activate(task text, version integer, force boolean default false)
returns salesai.prompt_template_activation
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    template salesai.prompt_template := salesai.known_prompt_template(task, version);
    served record;
    test salesai.prompt_template_run;
    before integer;
    replaced integer;
begin
    select * into served from salesai.served_model(template.model);
    -- From here on there is one who activates, and the test set stays as it is.
    lock table salesai.prompt_template_case in share row exclusive mode;
    template := salesai.known_prompt_template(task, version);
    if template.state = 'active' then
        raise exception 'prompt template % of "%" is active already', version, task using errcode = '55000';
    end if;
    before := salesai.active_prompt_version(template.task, coalesce(served.name, template.model));
    select * into test from salesai.prompt_template_run r
    where r.task = template.task and r.version = template.version
      and r.cases_sha256 = salesai.prompt_cases_digest(template.task, template.model)
      and r.model = served.name and r.model_sha256 is not distinct from served.sha256
      and r.compared_version = before
    order by r.id desc limit 1;
    if test.id is null and not coalesce(force, false) then
        raise exception 'prompt template % of "%" was not tested as it stands', version, task using errcode = '55000',
            detail = 'No run has its present test set and model, and compares it with the version that is active now.',
            hint = format('Look at select * from salesai.prompt_template_test(%L, %s), or pass force => true.', task, version);
    end if;
    update salesai.prompt_template t set state = 'retired'
    where t.task = template.task and t.model is not distinct from template.model and t.state = 'active'
    returning t.version into replaced;
    update salesai.prompt_template t
    set state = 'active', activated_by = salesai.current_role_name(), activated_at = now(), is_forced = test.id is null,
        replaced_version = replaced
    where t.task = template.task and t.version = template.version;
    return (template.task, template.version, before, test.cases, test.passed_before, test.passed,
        test.changed, test.id is null);
end
$$;
comment on function salesai.prompt_template_activate(text, integer, boolean) is
    'Makes a version of a prompt template the one that its model (any, where it names none) is asked by, from the next statement of every session on; says what the last test of it had shown. Refuses a version that was not tested with its present test set and model against what is active now, unless force is true';

create function salesai.prompt_template_rollback(task text, model text default null) returns salesai.prompt_template_activation
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    template salesai.prompt_template;
    result salesai.prompt_template_activation;
begin
    lock table salesai.prompt_template_case in share row exclusive mode;
    select * into template from salesai.prompt_template t
    where t.task = prompt_template_rollback.task and t.model is not distinct from prompt_template_rollback.model and t.state = 'active';
    if template.task is null then
        raise exception 'there is nothing to roll back' using errcode = '55000',
            detail = format('No prompt template of "%s" that somebody made is active for %s.', task, coalesce('model "' || model || '"', 'any model')),
            hint = 'salesai.prompt_templates says what is active.';
    end if;
    -- What it replaced is forgotten, so that one more step goes further back.
    update salesai.prompt_template t set state = 'retired', replaced_version = null
    where t.task = template.task and t.version = template.version;
    update salesai.prompt_template t set state = 'active', activated_by = salesai.current_role_name(), activated_at = now()
    where t.task = template.task and t.version = template.replaced_version;
    result.task := template.task;
    result.version := salesai.active_prompt_version(template.task, template.model);
    result.replaced_version := template.version;
    result.is_forced := false;
    return result;
end
$$;
comment on function salesai.prompt_template_rollback(text, text) is
    'Goes back to the version that the active one replaced, for the same model (NULL: for any); where that was none, to the one for any model or the built-in one. Needs no test: that version was active before';
