//! CRM records: what becomes of each, whom they match, what they log, and whose accounts are.

use std::sync::OnceLock;

use tests::cluster::Cluster;
use tests::session::Session;
use tests::world::{self, assert_settled, drain};

/// Goal: each CRM record has its outcome, and a bad one blocks no other.
#[test]
fn crm_outcomes() {
    let mut session = cluster().connect();
    let first = r#"[{"external_id": "T1", "name": "North"}, {"external_id": "", "name": "No id"},
        {"external_id": "T2"}, 7, {"external_id": "T3", "name": "South"}]"#;
    let outcomes = crm(&mut session, "team", first);
    assert_eq!(outcomes[0], "inserted");
    assert_eq!(outcomes[4], "inserted");
    for outcome in &outcomes[1..4] {
        assert!(outcome.starts_with("rejected: "), "{outcome}");
    }
    let second =
        r#"[{"external_id": "T1", "name": "North"}, {"external_id": "T3", "name": "Deep South"}]"#;
    assert_eq!(crm(&mut session, "team", second), ["unchanged", "updated"]);
    let dangling = r#"[{"external_id": "A1", "name": "Lost", "owner": "NOBODY"},
        {"external_id": "A2", "name": "Found"},
        {"external_id": "A3", "name": "Late", "updated_at": "not a time"}]"#;
    let outcomes = crm(&mut session, "account", dangling);
    assert!(outcomes[0].starts_with("rejected: "), "{outcomes:?}");
    assert_eq!(outcomes[1], "inserted");
    assert!(outcomes[2].starts_with("rejected: "), "{outcomes:?}");
}

/// Goal: a late copy of an older state changes nothing, deletes stay, and stages are noted as they change.
#[test]
fn late_crm_records() {
    let mut session = cluster().connect();
    let send = |session: &mut Session, kind: &str, fields: &str| -> String {
        crm(
            session,
            kind,
            &format!("[{{\"external_id\": \"LATE\", {fields}}}]"),
        )
        .remove(0)
    };
    let state = |session: &mut Session| -> String {
        session.one("select concat_ws(' ', name, stage, deleted_at is not null) from salesai.opportunity where external_id = 'LATE'", &[])
    };
    assert_eq!(
        send(&mut session, "account", r#""name": "Late Ltd""#),
        "inserted"
    );
    let deal = |stage: &str, day: u32| {
        format!(
            r#""name": "Late deal", "account": "LATE", "stage": "{stage}", "updated_at": "2026-11-{day:02}""#
        )
    };
    assert_eq!(
        send(&mut session, "opportunity", &deal("Demo", 10)),
        "inserted"
    );
    assert_eq!(
        send(&mut session, "opportunity", &deal("Legal", 12)),
        "updated"
    );
    assert_eq!(
        send(&mut session, "opportunity", &deal("Demo", 11)),
        "stale"
    );
    assert_eq!(
        send(&mut session, "opportunity", &deal("Legal", 12)),
        "unchanged"
    );
    assert_eq!(state(&mut session), "Late deal Legal f");
    let stages: Vec<String> = session.column(
        "select h.stage || ' ' || h.entered_at::date from salesai.opportunity_stage_history h
         join salesai.opportunity o on o.id = h.opportunity_id where o.external_id = 'LATE' order by h.entered_at",
        &[],
    );
    assert_eq!(stages, ["Demo 2026-11-10", "Legal 2026-11-12"]);
    let deleted = |day: u32| format!(r#""deleted": true, "updated_at": "2026-11-{day:02}""#);
    assert_eq!(send(&mut session, "opportunity", &deleted(11)), "stale");
    assert_eq!(send(&mut session, "opportunity", &deleted(14)), "deleted");
    assert_eq!(send(&mut session, "opportunity", &deleted(14)), "unchanged");
    assert_eq!(send(&mut session, "opportunity", &deal("Won", 13)), "stale");
    assert_eq!(state(&mut session), "Late deal Legal t");
    session
        .refusal(
            "select * from salesai.search('x', opportunity => 'Late deal', mode => 'lexical')",
            &[],
        )
        .assert_is("P0002", "a deleted deal");
    assert_eq!(
        send(&mut session, "opportunity", &deal("Won", 15)),
        "updated"
    );
    assert_eq!(state(&mut session), "Late deal Won f");
    let unknown = crm(
        &mut session,
        "contact",
        r#"[{"external_id": "NEVER", "deleted": true}]"#,
    );
    assert_eq!(unknown, ["unchanged"]);
    // A deletion that overtook its record, and a record that does not say of when it is.
    let account = |name: &str, more: &str| {
        format!(r#"[{{"external_id": "OVERTAKEN", "name": "{name}"{more}}}]"#)
    };
    let deleted = r#", "deleted": true, "updated_at": "2026-11-12""#;
    for (record, outcome) in [
        (account("Old", deleted), "unchanged"),
        (account("Old", r#", "updated_at": "2026-11-11""#), "stale"),
        (account("New", r#", "updated_at": "2026-11-13""#), "updated"),
        (account("Newer", ""), "updated"),
        (account("Old", r#", "updated_at": "2026-11-11""#), "stale"),
    ] {
        assert_eq!(crm(&mut session, "account", &record), [outcome], "{record}");
    }
    assert_eq!(
        crm(
            &mut session,
            "opportunity",
            r#"[{"external_id": "GONE", "deleted": true}]"#
        ),
        ["unchanged"]
    );
    let kept: String = session.one(
        "select name || ' ' || (deleted_at is null) from salesai.account where external_id = 'OVERTAKEN'",
        &[],
    );
    assert_eq!(kept, "Newer true");
    session
        .refusal(
            "select * from salesai.ingest_crm('t', 'account', '[]', 'excel')",
            &[],
        )
        .assert_is("22023", "an unknown shape");
}

/// Goal: HubSpot's deals, as its API gives them, have the names of their stages and their history, whichever comes
/// first; associations that come as records of their own say whose a deal and an engagement are, and stay.
#[test]
fn hubspot_deals() {
    let mut gateway = cluster().connect();
    gateway.run("create role hub in role salesai_gateway");
    gateway.run("set role hub");
    let mut session = cluster().connect();
    let mut send = |kind: &str, records: &str| shaped(&mut gateway, "hubspot", kind, records);
    let deal = r#"[{"id": "77", "archived": false, "properties": {"dealname": "Halden press", "dealstage": "9001", "pipeline": "default",
          "hs_lastmodifieddate": "2026-11-12T10:00:00Z"},
        "propertiesWithHistory": {"dealstage": [{"value": "9001", "timestamp": "2026-11-12T09:00:00Z", "sourceType": "CRM_UI"},
          {"value": "appointmentscheduled", "timestamp": "2026-11-02T09:00:00Z", "sourceType": "CRM_UI"}]}}]"#;
    assert_eq!(send("opportunity", deal), ["inserted"]);
    let stages = r#"[{"id": "9001", "label": "Contract sent", "displayOrder": 1, "metadata": {"isClosed": "false", "probability": "0.9"}},
        {"id": "appointmentscheduled", "label": "Appointment scheduled", "displayOrder": 0, "metadata": {"isClosed": "false", "probability": "0.2"}},
        {"id": "closedwon", "label": "Closed won", "displayOrder": 2, "metadata": {"isClosed": "true", "probability": "1.0"}}]"#;
    assert_eq!(send("stage", stages), ["inserted"; 3]);
    assert_eq!(send("stage", stages), ["unchanged"; 3]);
    // A row of DEAL_STAGE, as Fivetran exports it.
    let won = r#"[{"deal_id": "77", "value": "closedwon", "date_entered": "2026-11-14 08:00:00"},
        {"deal_id": "78", "value": "closedwon", "date_entered": "2026-11-14 08:00:00"},
        {"deal_id": "77", "name": "amount", "value": "9", "timestamp": "2026-11-14 08:00:00"}]"#;
    let outcomes = send("stage_change", won);
    assert_eq!(outcomes[0], "inserted");
    assert_eq!(outcomes[1], "rejected: record names an unknown opportunity");
    assert!(
        outcomes[2].starts_with("rejected: a stage change needs"),
        "{outcomes:?}"
    );
    assert_eq!(
        send(
            "rep",
            r#"[{"id": "7", "email": "hub@t.example", "firstName": "Hub"}]"#
        ),
        ["inserted"]
    );
    assert_eq!(
        send(
            "account",
            r#"[{"id": "5", "properties": {"name": "Halden Hub", "hubspot_owner_id": "7"}}]"#
        ),
        ["inserted"]
    );
    assert_eq!(
        send(
            "contact",
            r#"[{"id": "6", "properties": {"firstname": "Cleo", "lastname": "Hub", "email": "cleo@hub.example"}}]"#
        ),
        ["inserted"]
    );
    let note = r#"[{"id": "8", "type": "NOTE", "properties": {"hs_note_body": "The press is loud.", "hs_timestamp": "2026-11-13T09:00:00Z"}}]"#;
    assert_eq!(send("activity", note), ["inserted"]);
    let links = r#"[{"deal_id": "77", "company_id": "5"}, {"contact_id": "6", "company_id": "5"}, {"engagement_id": "8", "deal_id": "77"},
        {"engagement_id": "8", "contact_id": "6"}, {"engagement_id": "9", "deal_id": "77"}, {"deal_id": "77", "contact_id": "6"}]"#;
    let outcomes = send("association", links);
    assert_eq!(outcomes[..4], ["updated"; 4]);
    assert_eq!(outcomes[4], "rejected: record names an unknown activity");
    assert!(
        outcomes[5].starts_with("rejected: an association needs"),
        "{outcomes:?}"
    );
    assert_eq!(send("association", links)[..4], ["unchanged"; 4]);
    // Of several companies the primary one counts, also for what was logged; what was taken away is nobody's.
    assert_eq!(
        send(
            "account",
            r#"[{"id": "55", "properties": {"name": "Other Hub"}}]"#
        ),
        ["inserted"]
    );
    let owners = "select concat_ws(' ', o.account_id = i.account_id, a.name, i.owner_rep_id is not null) from salesai.interaction i
        join salesai.opportunity o on o.id = i.opportunity_id left join salesai.account a on a.id = i.account_id where i.source = 'hubspot'";
    for (link, outcome, owner) in [
        (
            r#""deal_id": "77", "company_id": "55", "type_id": "341""#,
            "unchanged",
            "t Halden Hub t",
        ),
        (
            r#""deal_id": "77", "company_id": "55", "type_id": "5""#,
            "updated",
            "t Other Hub f",
        ),
        (
            r#""deal_id": "77", "company_id": "55", "type_id": "17", "_fivetran_deleted": "true""#,
            "unchanged",
            "t Other Hub f",
        ),
        (
            r#""deal_id": "77", "company_id": "55", "type_id": "5", "_fivetran_deleted": "true""#,
            "updated",
            "f",
        ),
        (
            r#""deal_id": "77", "company_id": "5", "type_id": "5""#,
            "updated",
            "t Halden Hub t",
        ),
        (
            r#""contact_id": "6", "company_id": "5", "_fivetran_deleted": "true""#,
            "updated",
            "t Halden Hub t",
        ),
    ] {
        assert_eq!(
            send("association", &format!("[{{{link}}}]")),
            [outcome],
            "{link}"
        );
        assert_eq!(session.one::<String>(owners, &[]), owner, "{link}");
    }
    // A new name, and a stage that is gone, change no history.
    let renamed = stages.replace("Appointment scheduled", "Meeting booked");
    assert_eq!(
        send("stage", &renamed),
        ["unchanged", "updated", "unchanged"]
    );
    assert_eq!(
        send("stage", r#"[{"id": "closedwon", "archived": true}]"#),
        ["deleted"]
    );
    // Later copies that say nothing of associations.
    let renamed = deal
        .replace("Halden press", "Halden press II")
        .replace("12T10", "13T10");
    assert_eq!(send("opportunity", &renamed), ["updated"]);
    assert_eq!(
        send("activity", &note.replace("loud", "louder")),
        ["updated"]
    );
    drain(&mut session);
    let deal: String = session.one(
        "select concat_ws('|', o.name, o.stage, a.name, (select string_agg(h.stage || ' ' || h.entered_at::date, ', ' order by h.entered_at)
             from salesai.opportunity_stages h where h.opportunity_id = o.id))
         from salesai.opportunity o join salesai.account a on a.id = o.account_id where o.source = 'hubspot'",
        &[],
    );
    assert_eq!(
        deal,
        "Halden press II|Contract sent|Halden Hub|Meeting booked 2026-11-02, Contract sent 2026-11-12, Closed won 2026-11-14"
    );
    let activity: String = session.one(
        "select concat_ws('|', c.content, a.name, o.name, r.name, p.name) from salesai.chunk c
         join salesai.interaction i on i.id = c.interaction_id join salesai.account a on a.id = i.account_id
         join salesai.opportunity o on o.id = c.opportunity_id join salesai.rep r on r.id = c.owner_rep_id
         join salesai.participant p on p.interaction_id = i.id where i.source = 'hubspot'",
        &[],
    );
    assert_eq!(
        activity,
        "The press is louder.|Halden Hub|Halden press II|Hub|Cleo Hub"
    );
}

/// Goal: Salesforce's history of an opportunity, in whatever order its rows come, is one entry for each stay in a stage.
#[test]
fn salesforce_stage_history() {
    let mut session = cluster().connect();
    let mut send = |kind: &str, records: &str| shaped(&mut session, "salesforce", kind, records);
    let deal = r#"[{"Id": "006A", "Name": "Press", "StageName": "Proposal", "LastModifiedDate": "2026-11-09T10:00:00.000+0000",
        "OpportunityHistories": {"totalSize": 1, "done": true, "records": [{"StageName": "Prospecting", "CreatedDate": "2026-11-01T10:00:00.000+0000"}]}}]"#;
    assert_eq!(send("opportunity", deal), ["inserted"]);
    // A change of the amount is a row as well.
    let rows = r#"[{"Id": "008D", "OpportunityId": "006A", "StageName": "Proposal", "CreatedDate": "2026-11-08T10:00:00.000+0000"},
        {"Id": "008C", "OpportunityId": "006A", "StageName": "Proposal", "CreatedDate": "2026-11-07T10:00:00.000+0000"},
        {"Id": "008F", "OpportunityId": "006A", "StageName": "Proposal", "CreatedDate": "2026-11-03T10:00:00.000+0000"},
        {"Id": "008B", "OpportunityId": "006A", "StageName": "Qualification", "CreatedDate": "2026-11-04T10:00:00.000+0000"},
        {"Id": "008E", "OpportunityId": "006A", "StageName": "Qualification", "CreatedDate": "2026-11-05T10:00:00.000+0000"},
        {"Id": "017A", "OpportunityId": "006A", "Field": "Amount", "NewValue": 5, "CreatedDate": "2026-11-05T10:00:00.000+0000"}]"#;
    let outcomes = send("stage_change", rows);
    assert_eq!(outcomes[..5], ["inserted"; 5]);
    assert!(
        outcomes[5].starts_with("rejected: a stage change needs"),
        "{outcomes:?}"
    );
    assert_eq!(send("stage_change", rows)[..5], ["unchanged"; 5]);
    let stage = r#"[{"Id": "01JA", "ApiName": "Proposal", "MasterLabel": "Proposal/Quote", "SortOrder": 3, "IsClosed": false, "IsWon": false,
        "DefaultProbability": 75.0, "LastModifiedDate": "2026-11-09T10:00:00.000+0000"}]"#;
    assert_eq!(send("stage", stage), ["inserted"]);
    let stages: Vec<String> = session.column(
        "select h.stage || ' ' || (h.entered_at at time zone 'UTC')::date from salesai.opportunity_stages h
         join salesai.opportunity o on o.id = h.opportunity_id where o.source = 'salesforce' order by h.entered_at",
        &[],
    );
    assert_eq!(
        stages,
        [
            "Prospecting 2026-11-01",
            "Proposal/Quote 2026-11-03",
            "Qualification 2026-11-04",
            "Proposal/Quote 2026-11-07"
        ]
    );
    let stage: String = session.one(
        "select concat_ws(' ', o.stage, s.position, s.probability, s.is_closed, s.is_won)
         from salesai.opportunity o join salesai.stage s on s.source = o.source and s.name = o.stage where o.source = 'salesforce'",
        &[],
    );
    assert_eq!(stage, "Proposal/Quote 3 0.75 f f");
}

/// Goal: a CRM that comes after the calls says who took part; who is known already stays who he is.
#[test]
fn a_late_crm_is_matched() {
    let mut session = cluster().connect();
    let transcript =
        "Ana Lund: Hello.\nBob Dahl | Halden: Hi.\nCleo: Hey.\nDana: Good morning.\nEve: Yes.";
    let id: i64 = session.one(
        "select salesai.ingest_call('test', 'early', $1, participants => $2::text::jsonb)",
        &[
            &transcript,
            &r#"[{"name": "Ana Lund", "email": "Ana@tessellate.example"}, {"name": "Cleo", "email": "cleo@halden.example"},
                {"name": "Dana", "email": "dana@tessellate.example"}]"#,
        ],
    );
    drain(&mut session);
    let people = "select concat_ws(' ', name, side, (rep_id is not null)::text, (contact_id is not null)::text)
         from salesai.participant where interaction_id = $1 order by name";
    crm(
        &mut session,
        "rep",
        r#"[{"external_id": "late-1", "name": "A. Lund", "email": "ana@tessellate.example"}]"#,
    );
    crm(
        &mut session,
        "account",
        r#"[{"external_id": "late-1", "name": "Halden"}]"#,
    );
    crm(
        &mut session,
        "contact",
        r#"[{"external_id": "late-1", "account": "late-1", "name": "Bob Dahl"}, {"external_id": "late-2", "account": "late-1", "name": "C", "email": "CLEO@halden.example"},
            {"external_id": "late-3", "account": "late-1", "name": "Ana Lund"}, {"external_id": "late-4", "account": "late-1", "name": "New"}]"#,
    );
    assert_eq!(
        session.column::<String>(people, &[&id]),
        [
            "Ana Lund internal true false",
            "Bob Dahl | Halden external false true",
            "Cleo external false true",
            "Dana internal false false",
            "Eve unknown false false",
        ]
    );
    // A contact who gets a name.
    crm(
        &mut session,
        "contact",
        r#"[{"external_id": "late-4", "account": "late-1", "name": "Eve"}]"#,
    );
    let eve: String = session.one(&format!("select p from ({people} offset 4) f (p)"), &[&id]);
    assert_eq!(eve, "Eve external false true");
}

/// Goal: what is indexed already calls those by their name whom the CRM comes to know.
#[test]
fn a_late_name_is_shown() {
    let mut session = cluster().connect();
    let mail = "From: fay@fay.example\r\nSubject: Scale\r\n\r\nThe scale is slow.";
    session.rows(
        "select salesai.ingest_email('test', 'late name', $1)",
        &[&mail.as_bytes()],
    );
    let text = "select c.heading || ' ' || c.content from salesai.chunk c join salesai.interaction i on i.id = c.interaction_id
        where i.external_id = 'late name'";
    for name in ["[email 1]", "Fay Berg"] {
        drain(&mut session);
        assert_eq!(
            session.one::<String>(text, &[]),
            format!("email | Scale {name}: The scale is slow.")
        );
        crm(
            &mut session,
            "contact",
            r#"[{"external_id": "FAY", "name": "Fay Berg", "email": "fay@fay.example"}]"#,
        );
    }
    assert_settled(&mut session);
}

/// Goal: a new owner of an account takes over its interactions and chunks.
#[test]
fn owner_change_is_carried() {
    let mut session = cluster().connect();
    crm(
        &mut session,
        "rep",
        r#"[{"external_id": "R1", "name": "One"}, {"external_id": "R2", "name": "Two"}]"#,
    );
    crm(
        &mut session,
        "account",
        r#"[{"external_id": "MOVE", "name": "Moving Ltd", "owner": "R1"}]"#,
    );
    let id: i64 = session.one(
        "select salesai.ingest_note('test', 'moving', 'They move next week.', account => 'Moving Ltd')",
        &[],
    );
    drain(&mut session);
    let owners = "select array[
        (select r.name from salesai.interaction i join salesai.rep r on r.id = i.owner_rep_id where i.id = $1),
        (select min(r.name) from salesai.chunk c join salesai.rep r on r.id = c.owner_rep_id where c.interaction_id = $1)]";
    assert_eq!(session.one::<Vec<String>>(owners, &[&id]), ["One", "One"]);
    crm(
        &mut session,
        "account",
        r#"[{"external_id": "MOVE", "name": "Moving Ltd", "owner": "R2"}]"#,
    );
    assert_eq!(session.one::<Vec<String>>(owners, &[&id]), ["Two", "Two"]);
}

pub fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| world::cluster(true))
}

pub fn crm(session: &mut Session, kind: &str, records: &str) -> Vec<String> {
    session.column(
        "select outcome from salesai.ingest_crm('test', $1, $2::text::jsonb)",
        &[&kind, &records],
    )
}

/// Records in a system's own shape; the source has its name.
fn shaped(session: &mut Session, shape: &str, kind: &str, records: &str) -> Vec<String> {
    session.column(
        "select outcome from salesai.ingest_crm($1, $2, $3::text::jsonb, $1)",
        &[&shape, &kind, &records],
    )
}
