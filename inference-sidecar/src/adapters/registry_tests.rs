//! Goal: one sender per name, bounds that hold, and no user of an adapter is ever disturbed.

use safetensors::tensor::{Dtype, TensorView};

use super::*;
use crate::adapters::Transfer;

const BASE: AdapterBase = AdapterBase {
    layers: 1,
    hidden: 16,
    feed_forward: 16,
    heads: 2,
    kv_heads: 2,
    head_size: 8,
    permuted_heads: false,
};
const CONFIG: &str =
    r#"{"peft_type": "LORA", "r": 16, "lora_alpha": 1, "target_modules": ["q_proj"]}"#;
/// What one of the adapters below takes: two factors of 256 values.
const ADAPTER_BYTES: u64 = 2 * 256 * 4;
/// Room for three.
const LIMITS: AdapterLimits = AdapterLimits {
    count_max: 3,
    rank_max: 16,
    bytes_max: 100_000,
};

fn registry(limits: AdapterLimits) -> Arc<AdapterRegistry> {
    let bases = vec![("m".to_owned(), BASE), ("n".to_owned(), BASE)];
    Arc::new(AdapterRegistry::new(bases, limits))
}

fn content(value: f32) -> Vec<u8> {
    let bytes = value.to_le_bytes().repeat(256);
    let name =
        |factor| format!("base_model.model.model.layers.0.self_attn.q_proj.lora_{factor}.weight");
    let view = |shape| TensorView::new(Dtype::F32, shape, &bytes).unwrap();
    safetensors::serialize(
        [
            (name("A"), view(vec![16, 16])),
            (name("B"), view(vec![16, 16])),
        ],
        None,
    )
    .unwrap()
}

fn header(name: &str, generation: u64, content: &[u8]) -> AdapterHeader {
    let digest = Sha256::digest(content);
    AdapterHeader {
        name: name.to_owned(),
        generation,
        model: ModelChoice::Default,
        sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        content_bytes: content.len() as u64,
        config_json: CONFIG.to_owned(),
    }
}

fn begin(registry: &Arc<AdapterRegistry>, header: AdapterHeader) -> Result<Transfer, Error> {
    match registry.begin(header)? {
        Admission::Transfer(transfer) => Ok(*transfer),
        Admission::Loaded(generation) => panic!("generation {generation} is loaded"),
    }
}

fn load(registry: &Arc<AdapterRegistry>, name: &str, generation: u64) -> Result<u64, Error> {
    let content = content(generation as f32);
    let mut transfer = begin(registry, header(name, generation, &content))?;
    content
        .chunks(100)
        .try_for_each(|part| transfer.append(part))?;
    transfer.finish()
}

fn names(registry: &AdapterRegistry) -> Vec<String> {
    registry
        .list()
        .into_iter()
        .map(|card| format!("{}.{}", card.name, card.generation))
        .collect()
}

fn check_error<T>(result: Result<T, Error>, expected: &str) {
    let error = result
        .err()
        .unwrap_or_else(|| panic!("no error instead of {expected:?}"));
    let text = format!("{error:?}: {error}");
    assert!(text.contains(expected), "expected {expected:?} in {text:?}");
}

#[test]
fn generations_follow_each_other() {
    let registry = registry(LIMITS);
    check_error(registry.get("m", "a", None), "AdapterNotFound");
    assert_eq!(load(&registry, "a", 2).unwrap(), 2);
    let old = registry.get("m", "a", None).unwrap();
    assert_eq!(
        (old.generation, old.model.as_str(), old.adapter.bytes()),
        (2, "m", ADAPTER_BYTES)
    );
    check_error(registry.get("n", "a", None), "AdapterNotFound");
    check_error(registry.get("m", "a", Some(3)), "AdapterNotFound");
    check_error(
        registry.get("m", "a", Some(1)),
        "AdapterOutdated { name: \"a\", loaded: 2 }",
    );
    check_error(
        load(&registry, "a", 1),
        "AdapterOutdated { name: \"a\", loaded: 2 }",
    );

    assert_eq!(load(&registry, "a", 3).unwrap(), 3);
    let new = registry.get("m", "a", Some(3)).unwrap();
    let value = |loaded: &LoadedAdapter| {
        loaded
            .adapter
            .change(0, crate::models::Module::Query)
            .unwrap()
            .a
            .to_f32()[0]
    };
    assert_eq!((value(&old), value(&new)), (2.0, 3.0));
    assert_ne!(old.identity, new.identity);
    assert_eq!(names(&registry), ["a.3"]);
}

#[test]
fn a_loaded_generation_is_not_sent_again() {
    let registry = registry(LIMITS);
    load(&registry, "a", 1).unwrap();
    let same = header("a", 1, &content(1.0));
    assert!(matches!(
        registry.begin(same.clone()),
        Ok(Admission::Loaded(1))
    ));
    check_error(
        registry.begin(header("a", 1, &content(5.0))),
        "loaded with other content",
    );
    let other = AdapterHeader {
        config_json: CONFIG.replace("\"r\"", " \"r\""),
        ..same
    };
    check_error(registry.begin(other), "loaded with other content");
}

#[test]
fn one_sender_per_name() {
    let registry = registry(LIMITS);
    let content = content(1.0);
    let first = begin(&registry, header("a", 1, &content)).unwrap();
    check_error(
        begin(&registry, header("a", 1, &content)),
        "AdapterInTransit",
    );
    check_error(
        begin(&registry, header("a", 2, &content)),
        "AdapterInTransit",
    );
    let on_other_model = AdapterHeader {
        model: ModelChoice::Named("n".into()),
        ..header("a", 1, &content)
    };
    drop(begin(&registry, on_other_model).unwrap());
    drop(first);
    assert!(registry.list().is_empty());
    load(&registry, "a", 1).unwrap();
    let nowhere = AdapterHeader {
        model: ModelChoice::Named("x".into()),
        ..header("a", 1, &content)
    };
    check_error(registry.begin(nowhere), "ModelNotFound");
}

#[test]
fn broken_transfers_leave_nothing() {
    let registry = registry(LIMITS);
    let content = content(1.0);
    let half = content.len() / 2;
    let check = |header: AdapterHeader, parts: &[&[u8]], expected: &str| {
        let mut transfer = begin(&registry, header).unwrap();
        let sent = parts.iter().try_for_each(|part| transfer.append(part));
        check_error(sent.and_then(|()| transfer.finish()), expected);
        assert!(registry.list().is_empty());
    };
    let good = || header("a", 1, &content);
    check(good(), &[], "fewer came");
    check(good(), &[&content[..half]], "fewer came");
    check(good(), &[&content, b"x"], "more came");
    check(
        good(),
        &[&content[half..], &content[..half]],
        "\"sha256\" must be",
    );
    check(
        header("a", 1, b"nothing"),
        &[b"nothing"],
        "\"a\" cannot be used: this is not a safetensors",
    );
    let rank = CONFIG.replace("\"r\": 16", "\"r\": 2");
    check(
        AdapterHeader {
            config_json: rank,
            ..good()
        },
        &[&content],
        "has rank 16",
    );
    load(&registry, "a", 1).unwrap();
}

#[test]
fn the_buffer_follows_what_arrives() {
    let registry = registry(AdapterLimits {
        bytes_max: 1 << 40,
        ..LIMITS
    });
    let huge = AdapterHeader {
        content_bytes: 1 << 30,
        ..header("a", 1, b"")
    };
    let mut transfer = begin(&registry, huge).unwrap();
    transfer.append(&[0; 1000]).unwrap();
    assert!(transfer.capacity() <= 2000);
    transfer.append(&[0; 1]).unwrap();
    assert!((1001..=2002).contains(&transfer.capacity()));
}

#[test]
fn ranks_and_bytes_are_bounded() {
    let low = registry(AdapterLimits {
        rank_max: 0,
        ..LIMITS
    });
    check_error(load(&low, "a", 1), "its rank is 16, at most 0 is allowed");
    let size = content(1.0).len() as u64;
    let small = registry(AdapterLimits {
        bytes_max: size - 1,
        ..LIMITS
    });
    check_error(load(&small, "a", 1), "AdapterRoom");
    // Two announcements together are too much: one waits.
    let exact = registry(AdapterLimits {
        bytes_max: size,
        ..LIMITS
    });
    let first = begin(&exact, header("a", 1, &content(1.0))).unwrap();
    check_error(load(&exact, "b", 1), "AdaptersBusy");
    drop(first);
    load(&exact, "b", 1).unwrap();
}

#[test]
fn the_longest_unused_makes_room() {
    let registry = registry(LIMITS);
    for name in ["a", "b", "c"] {
        load(&registry, name, 1).unwrap();
    }
    drop(registry.get("m", "a", None).unwrap());
    load(&registry, "d", 1).unwrap();
    assert_eq!(names(&registry), ["a.1", "c.1", "d.1"]);

    // In use, even the longest unused stays.
    let in_use = registry.get("m", "c", None).unwrap();
    drop(registry.get("m", "a", None).unwrap());
    drop(registry.get("m", "d", None).unwrap());
    load(&registry, "e", 1).unwrap();
    assert_eq!(names(&registry), ["c.1", "d.1", "e.1"]);
    assert_eq!(registry.list()[0].users, 1);
    let second = Arc::clone(&in_use);
    assert_eq!(registry.list()[0].users, 2);

    let others = [
        registry.get("m", "d", None).unwrap(),
        registry.get("m", "e", None).unwrap(),
    ];
    check_error(load(&registry, "f", 1), "AdaptersBusy");
    // A newer generation takes its own place, also while the older one runs.
    load(&registry, "c", 2).unwrap();
    assert_eq!(names(&registry), ["c.2", "d.1", "e.1"]);
    assert_eq!((in_use.generation, second.generation), (1, 1));
    drop(others);
    load(&registry, "f", 1).unwrap();
    assert_eq!(registry.list().len(), 3);
}

#[test]
fn memory_of_old_generations_counts() {
    let fitting = 5;
    let size = fitting * ADAPTER_BYTES + ADAPTER_BYTES / 2;
    let registry = registry(AdapterLimits {
        count_max: 100,
        bytes_max: size,
        ..LIMITS
    });
    // Each older generation stays in use, so that every one takes its part.
    let mut users = Vec::new();
    for generation in 1..=fitting {
        load(&registry, "a", generation).unwrap();
        users.push(registry.get("m", "a", None).unwrap());
    }
    check_error(load(&registry, "a", fitting + 1), "AdaptersBusy");
    assert_eq!(names(&registry), [format!("a.{fitting}")]);
    registry.remove("a").unwrap();
    check_error(load(&registry, "b", 1), "AdaptersBusy");
    users.pop();
    load(&registry, "b", 1).unwrap();
}

#[test]
fn unloading_disturbs_nobody() {
    let registry = registry(LIMITS);
    check_error(registry.remove("a"), "AdapterNotFound");
    load(&registry, "a", 4).unwrap();
    let user = registry.get("m", "a", None).unwrap();
    registry.remove("a").unwrap();
    check_error(registry.get("m", "a", None), "AdapterNotFound");
    check_error(registry.remove("a"), "AdapterNotFound");
    assert_eq!(user.adapter.rank(), 16);
    // An unload forgets the generation as well: the sender decides which one comes next.
    load(&registry, "a", 1).unwrap();
    assert_eq!(names(&registry), ["a.1"]);
}

#[test]
fn many_senders_and_users() {
    let registry = registry(LIMITS);
    std::thread::scope(|scope| {
        for thread in 0..8u64 {
            let registry = &registry;
            scope.spawn(move || {
                for turn in 0..200 {
                    let name = ["a", "b", "c", "d", "e"][((thread + turn) % 5) as usize];
                    // Refusals are part of it, and so is that another has loaded the same generation;
                    // what is found must be whole.
                    let bytes = content((1 + turn) as f32);
                    if let Ok(Admission::Transfer(mut transfer)) =
                        registry.begin(header(name, 1 + turn, &bytes))
                        && transfer.append(&bytes).is_ok()
                    {
                        let _ = transfer.finish();
                    }
                    if let Ok(user) = registry.get("m", name, None) {
                        let a = &user
                            .adapter
                            .change(0, crate::models::Module::Query)
                            .unwrap()
                            .a;
                        assert_eq!(a.to_f32(), [user.generation as f32; 256]);
                    }
                    if turn % 17 == 0 {
                        let _ = registry.remove(name);
                    }
                    assert!(registry.list().len() <= LIMITS.count_max);
                }
            });
        }
    });
    // Nothing is left in the books.
    for name in ["a", "b", "c", "d", "e"] {
        load(&registry, name, 1000).unwrap();
    }
    assert_eq!(
        registry.list().iter().map(|card| card.users).sum::<usize>(),
        0
    );
}
