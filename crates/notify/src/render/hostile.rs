//! Templates that would cost much more than they look.

use super::*;
use crate::tests::fixture;

/// A page whose facts are as long as they may be.
fn longest() -> Page {
    let mut page = fixture::firing();
    page.alert.labels = Arc::new(
        (0..LABELS_MAX)
            .map(|i| (format!("l{i}"), "长".repeat(FIELD_CHARS_MAX)))
            .collect(),
    );
    page
}

#[test]
fn a_costly_template_costs_neither_the_page_nor_the_time_of_others() {
    let nested = "{% for a in range(10000) %}{% for b in range(10000) %}x{% endfor %}{% endfor %}";
    let silent = "{% for a in range(10000) %}{% for b in range(10000) %}{% endfor %}{% endfor %}";
    let long = "{% for a in range(9000) %}{{ summary }}{% endfor %}";
    let page = fixture::firing();
    let listed = "{% for a in range(1000) %}{% if range(1000)|string %}{% endif %}{% endfor %}";
    let joined = "{{ range(1000)|join(summary ~ summary ~ summary) }}";
    for text in [nested, silent, long, listed, joined] {
        let templates = Templates::compile(None, Some(text)).unwrap();
        let message = templates.message(&page);
        assert_eq!(message.title, page.alert.summary, "{text}");
        // Of this one every step is costly, and all of them are allowed.
        assert!(message.template_error.is_some() || text == listed, "{text}");
    }
}

/// The engine itself panics where something is divided by what it cannot be divided by.
#[test]
fn what_the_engine_cannot_do_costs_the_title_and_nothing_else() {
    let page = fixture::firing();
    for text in [
        "{{ 7 is divisibleby(0) }}",
        "{% if 7 is divisibleby(reading.n - reading.n) %}x{% endif %}",
        "{{ 7 % 0 }}",
        "{{ 7 // 0 }}",
        "{{ (-170141183460469231731687303715884105728) is divisibleby(-1) }}{{ nothing.there }}",
    ] {
        let templates = Templates::compile(None, Some(text)).unwrap();
        let message = templates.message(&page);
        assert_eq!(message.title, page.alert.summary, "{text}");
        assert!(message.template_error.is_some(), "{text}");
    }
}

/// What the process has used at most, MiB.
fn most_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    kib.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1_024
}

/// Each of these would take a gigabyte or more, some of them before they write a byte.
#[test]
fn a_template_that_doubles_its_texts_is_refused_before_it_takes_memory() {
    let doublings = |one: &str| "{% set a = summary %}".to_owned() + &one.repeat(28);
    let nested = |one: &str, end: &str| {
        "{% set a = summary %}".to_owned() + &one.repeat(28) + "{{ a }}" + &end.repeat(28)
    };
    let hostile = [
        doublings("{% set a = a ~ a %}") + "{{ a }}",
        doublings("{% set a = a + a %}") + "{{ a }}",
        doublings("{% set a = [a, a] %}") + "{{ a|string|length }}",
        doublings("{% set a = [a, a]|join %}") + "{{ a|length }}",
        doublings("{% set a %}{{ a }}{{ a }}{% endset %}") + "{{ a|length }}",
        nested("{% for a in [a ~ a] %}", "{% endfor %}"),
        nested("{% with a = a ~ a %}", "{% endwith %}"),
        nested("{% for a in {'x': a ~ a}.values() %}", "{% endfor %}"),
        "{% for a in ['xxxx'] recursive %}{{ loop([a ~ a]) }}{% endfor %}".to_owned(),
        "{% set peak = summary %}{{ (peak * 10000) * 1000 }}".to_owned(),
        "{% set reading = labels %}{{ reading.value * 100000000 }}".to_owned(),
        "{% for peak in ['x'] %}{{ peak * 100000000 }}{% endfor %}".to_owned(),
        "{% for (peak, b) in labels|items %}{{ peak * 100000000 }}{% endfor %}".to_owned(),
        "{{ 'x' * 100000000 }}".to_owned(),
        "{{ summary * (peak * 1000000) }}".to_owned(),
        "{{ [summary, summary] }}".to_owned(),
        "{{ '%999999999d'|format(1) }}".to_owned(),
        "{{ summary | indent(1000000000) }}".to_owned(),
        "{{ summary | batch(1000000000, 'x') }}".to_owned(),
        "{{ summary | replace('', summary) | replace('', summary) }}".to_owned(),
        "{% filter upper %}{% for a in range(1000) %}{{ labels }}{% endfor %}{% endfilter %}"
            .to_owned(),
        "{% set n = namespace() %}".to_owned(),
        "{{ summary ~ summary".to_owned() + &" ~ summary".repeat(8) + " }}",
        "{{ dict(a=summary) }}".to_owned(),
        "{{ range(10000)|join('x'*60000) }}".to_owned(),
        "{% for a in range(1000) %}{% if ('a'*60000)|upper %}{% endif %}{% endfor %}".to_owned(),
        "{{ labels | tojson }}{{ labels | pprint }}{{ summary | urlencode }}".to_owned(),
        "{{ labels | map('upper') | list }}".to_owned(),
        "{{ 'x'.join(labels) }}".to_owned(),
        "{% if 'upper' is filter %}x{% endif %}".to_owned(),
        "{{ labels | weigh }}".to_owned(),
        "{{ summary }}".repeat(4_000),
    ];
    for text in &hostile {
        let Ok(templates) = Templates::compile(None, Some(text)) else {
            continue;
        };
        let message = templates.message(&fixture::firing());
        panic!("taken: {text}, and makes {} characters", message.text.len());
    }
    assert!(most_mib() < 256, "{} MiB", most_mib());
}

fn beginning(text: &str) -> String {
    text.chars().take(200).collect()
}

/// Bytes that one operation may ask for beyond the budget: all labels of a page, twice.
const ASKED_BYTES_MAX: usize = 2 * LABELS_MAX * FIELD_CHARS_MAX * 4;

/// Each of these is taken, and costs far more than its steps.
#[test]
fn what_a_template_handles_is_bounded_in_bytes() {
    let each = |costly: &str| {
        format!(
            "{{% set t = '{}' %}}{{% for a in range(1000) %}}{{% if ",
            "长".repeat(9_000)
        ) + costly
            + " %}{% endif %}{% endfor %}"
    };
    let listed = |costly: &str| {
        "{% set i = labels|items %}{% for a in range(1000) %}{% if ".to_owned()
            + costly
            + " %}{% endif %}{% endfor %}"
    };
    let twice = "{% set t = labels.l0[:]|upper %}{{ t|length }}".repeat(200);
    let grown = format!("{{{{ summary{}|length }}}}", "|list|string".repeat(12));
    let raw = |text: &str| format!("{{% for a in range(1000) %}}{text}{{% endfor %}}");
    let nested = raw(&raw(""));
    let hostile = [
        twice,
        grown,
        nested,
        raw(&"x".repeat(30_000)),
        raw("{{ summary }}{{ summary }}"),
        raw("{{ labels }}"),
        raw("{{ range(1000)|string|length }}"),
        raw("{% for b in range(1000)|reverse %}{% endfor %}"),
        raw(&format!(
            "{{% if '{}' ~ a %}}{{% endif %}}",
            "x".repeat(30_000)
        )),
        raw(&format!(
            "{{% if '{}'|upper %}}{{% endif %}}",
            "x".repeat(30_000)
        )),
        each("t|upper|lower|title|capitalize"),
        each("t|trim('x')"),
        each("t|reverse"),
        each("t[:][::-1]"),
        each("t[-1]"),
        each("t[1:] == t[2:]"),
        each("'zz' in t"),
        each("t < t"),
        each("0 != t == t"),
        each("t is startingwith(t)"),
        each("t is in(t)"),
        each("t is eq t"),
        each("t is upper"),
        each("t ~ t"),
        each("t + t"),
        each("labels ~ labels ~ labels"),
        each("labels == labels"),
        each("labels is eq labels"),
        each("labels|dictsort|length"),
        each("labels|items|list|length"),
        listed("i ~ 1"),
        listed("i|string|length"),
        listed("i == i"),
        listed("i|sort|length"),
        listed("i|max"),
        listed("i|first"),
        listed("i|d(i)"),
        listed("i|join(a|string)|length"),
        listed("range(1000)|sort(reverse=true)|last"),
        each("t|list|sort|length"),
        format!("{{{{ (labels|items){}|length }}}}", "[:]".repeat(90)),
        format!("{{{{ labels|items{}|length }}}}", "|reverse".repeat(190)),
        "{{ range(1000)|join(labels|string) }}".to_owned(),
        "{{ range(1001)|length }}".to_owned(),
        "{{ labels|items|join(labels ~ labels)|length }}".to_owned(),
    ];
    let page = longest();
    let facts = Facts::of(&page);
    for text in &hostile {
        let shown = beginning(text);
        Templates::compile(None, Some(text))
            .map_err(|error| panic!("{shown}: {error:?}"))
            .ok();
        let budget = Arc::default();
        let strict = UndefinedBehavior::Strict;
        let rendered = counted::render("text", text, &facts, strict, &budget);
        let error = rendered.expect_err(&shown);
        assert!(budget.is_spent(), "{shown}: {error}");
        let most = counted::HANDLED_BYTES_MAX + ASKED_BYTES_MAX;
        assert!(budget.handled() <= most, "{shown}: {}", budget.handled());
        // The page goes out all the same.
        let message = Templates::compile(None, Some(text)).unwrap().message(&page);
        assert_eq!(message.title, page.alert.summary, "{shown}");
        assert!(message.template_error.is_some(), "{shown}");
    }
    assert!(most_mib() < 256, "{} MiB", most_mib());
}

/// Each of these is read and taken down level by level.
#[test]
fn a_template_cannot_be_nested_deeper_than_the_stack() {
    let deep = |one: &str, times: usize| "{{ labels".to_owned() + &one.repeat(times) + " }}";
    let before = |one: &str, times: usize| "{{ ".to_owned() + &one.repeat(times) + "1 }}";
    let hostile = [
        deep("|d", 15_000),
        deep("|reverse", 3_900),
        deep(".b", 15_000),
        deep("[0]", 10_000),
        deep("[:]", 10_000),
        deep("-1", 15_000),
        deep("<1", 15_000),
        deep("**1", 10_000),
        deep(" and 1", 5_000),
        deep(" is int", 4_000),
        deep(" if 1 else 1", 2_500),
        before("-", 15_000),
        before("not ", 7_000),
        before("(", 15_000),
        before("[", 15_000),
        "{%if 0%}".to_owned() + &"{%elif 0%}".repeat(3_000) + "{%endif%}",
        "{%if 1%}".repeat(1_900) + &"{%endif%}".repeat(1_900),
        "{%for a in 'a'%}".repeat(1_000) + &"{%endfor%}".repeat(1_000),
        "{%with a=1%}".repeat(1_000) + &"{%endwith%}".repeat(1_000),
    ];
    for text in &hostile {
        let refused = Templates::compile(None, Some(text)).err();
        let shown = beginning(text);
        assert!(refused.is_some(), "{shown}");
    }
    // What is still taken fits the stack, where it is rendered too.
    let deepest = [
        deep("|d", 190),
        deep("-1", 190).replace("labels", "1"),
        deep("[:]", 90).replace("labels", "summary"),
        before("-", 120),
        before("(", 100).replace('1', &("1".to_owned() + &")".repeat(100))),
        "{%if 0%}".to_owned() + &"{%elif 0%}".repeat(190) + "{%endif%}",
        "{%if 1%}".repeat(100) + &"{%endif%}".repeat(100),
    ];
    for text in &deepest {
        let shown = beginning(text);
        if let Ok(templates) = Templates::compile(None, Some(text)) {
            let message = templates.message(&fixture::firing());
            assert_eq!(message.template_error, None, "{shown}");
        }
    }
}

#[test]
fn every_filter_that_is_taken_is_there() {
    let page = fixture::firing();
    for name in growth::FILTERS {
        let text = format!("{{{{ labels|{name} }}}}{{{{ 1|{name} }}}}");
        let message = Templates::compile(None, Some(&text))
            .unwrap()
            .message(&page);
        let error = message.template_error.unwrap_or_default();
        assert!(!error.contains("unknown"), "{name}: {error}");
    }
}

#[test]
fn a_template_that_is_costly_on_an_ordinary_page_is_found_out() {
    let costly = "{% for a in range(100) %}{% for b in range(100) %}{% endfor %}{% endfor %}";
    let over = format!("{{% if action == 'resolve' %}}{costly}{{% endif %}}");
    for text in [
        costly,
        &over,
        "{% for a in range(800) %}{{ labels }}{{ labels.none.at }}{% endfor %}",
    ] {
        let (key, problem) = Templates::compile(None, Some(text))
            .unwrap()
            .try_out()
            .unwrap_err();
        assert_eq!(key, "text", "{text}");
        assert!(problem.contains("(line 1)"), "{problem}");
    }
    // What only some pages have is no mistake.
    for text in [
        "{{ labels.region.name }}",
        "{{ entity.courier|upper }}{{ reading.value|title }}",
    ] {
        assert_eq!(
            Templates::compile(None, Some(text)).unwrap().try_out(),
            Ok(())
        );
    }
}

#[test]
fn what_pages_need_is_written_and_takes_little() {
    let plain = "{% set unit = labels.team or 'x' %}{{ rule ~ ': ' ~ unit }} \
        {% for name, value in labels|items %}{{ loop.index * 2 }} {{ name }}={{ value }};{% endfor %} \
        {{ reading.value * 100 + 1 }} {{ (peak - 1)|round(2) * 3 }} {{ ['a', 'b']|join('+') }} \
        {% with p = playbook %}{{ p|default('none', true)|upper }}{% endwith %} \
        {% for a in range(2) if a > 0 %}{{ a }}{% endfor %}{{ summary[:3] ~ '…' if summary else '' }}";
    let templates = Templates::compile(Some("{{ rule|title }}"), Some(plain)).unwrap();
    let message = templates.message(&fixture::firing());
    assert_eq!(message.template_error, None);
    assert!(message.text.contains(": pricing"), "{}", message.text);
    assert!(most_mib() < 256, "{} MiB", most_mib());
}
