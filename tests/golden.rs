//! The SQL API, as users see it.

use std::fs;

use tests::cluster::{Cluster, Settings};
use tests::config::{config, repository};
use tests::session::Session;

/// Functions, views, tables and types that belong to the extension, one line each.
const LISTING: &str = "
    with member as (
        select classid, objid from pg_depend
        where refclassid = 'pg_extension'::regclass and deptype = 'e'
          and refobjid = (select oid from pg_extension where extname = 'pg_salesai'))
    select 'function ' || p.proname || '(' || pg_get_function_arguments(p.oid) || ') returns '
           || pg_get_function_result(p.oid) as line
    from pg_proc p join member m on m.classid = 'pg_proc'::regclass and m.objid = p.oid
    union all
    select case c.relkind when 'v' then 'view ' when 'c' then 'type ' else 'table ' end || c.relname || '('
           || string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod)
                         || case when a.attnotnull then ' not null' else '' end, ', ' order by a.attnum) || ')'
    from pg_class c
    join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    where c.relkind in ('r', 'v', 'c')
      and (exists (select from member m where m.classid = 'pg_class'::regclass and m.objid = c.oid)
           or exists (select from member m where m.classid = 'pg_type'::regclass and m.objid = c.reltype))
    group by c.oid, c.relname, c.relkind
    order by 1";

/// Goal: the API changes only on purpose. `SALESAI_UPDATE_GOLDEN=1` writes the listing anew.
#[test]
fn sql_api() {
    let settings = Settings {
        worker: false,
        ..Settings::new("/nowhere.sock".into())
    };
    let listing = listing(&mut Cluster::start(&settings).connect());
    let file = repository().join("tests/golden/sql_api.txt");
    if config().update_golden {
        fs::write(&file, &listing).expect("write the listing");
    }
    let golden = fs::read_to_string(&file).expect("read the listing");
    let (golden, listing): (Vec<&str>, Vec<&str>) =
        (golden.lines().collect(), listing.lines().collect());
    let gone: Vec<_> = golden
        .iter()
        .filter(|line| !listing.contains(line))
        .collect();
    let new: Vec<_> = listing
        .iter()
        .filter(|line| !golden.contains(line))
        .collect();
    assert!(
        gone.is_empty() && new.is_empty(),
        "gone: {gone:#?}\nnew: {new:#?}"
    );
}

fn listing(session: &mut Session) -> String {
    let mut lines: Vec<String> = session.column(LISTING, &[]);
    lines.sort();
    lines.join("\n") + "\n"
}
