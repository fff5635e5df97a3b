//! The page of checks that pass, fail, and hold what no honest backend writes.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use ndarray::ArrayD;

use super::golden_page;
use crate::files::TensorWriter;
use crate::golden::Arithmetic;
use crate::golden::cases::{self, Case, Expected};
use crate::golden::check::{CheckOptions, CheckReport, check_against};
use crate::golden::difference::Deviation;
use crate::golden::make::{self, MakeOptions};
use crate::golden::mistakes::{Mistake, named};
use crate::golden::plain::Plain;
use crate::golden::relations::planted::{Planting, Until, Way};
use crate::golden::suite::{Format, Suite};
use crate::golden::tolerance::Profile;

static CORE: LazyLock<Vec<Case>> = LazyLock::new(|| cases::core().unwrap());

type Written = BTreeMap<String, ArrayD<f64>>;
type Change = fn(&ArrayD<f64>) -> Option<ArrayD<f64>>;

/// A small suite, and a backend in `f32` with a mistake, whose tensors are changed before they are written.
fn checkup(
    ids: &[&str],
    mistakes: &[&Mistake],
    checking: &CheckOptions,
    change: impl Fn(&str, &mut Written),
) -> CheckReport {
    let folder = tempfile::tempdir().unwrap();
    let (golden, out) = (folder.path().join("golden"), folder.path().join("out"));
    let cases: Vec<Case> = ids.iter().map(|id| CORE.iter().find(|case| case.id == *id).unwrap().clone()).collect();
    let options = MakeOptions {
        profiles: &[Profile::F32],
        layouts: &[],
        of_pictures: &[],
        steps: true,
        kills: false,
        single: true,
        wide: false,
    };
    make::write(&golden, "small", &cases, Format::Safetensors, options, |_| ()).unwrap();
    std::fs::create_dir(&out).unwrap();
    let suite = Suite::open(&golden).unwrap();
    for case in &cases {
        let mut written = Written::new();
        if case.expected == Expected::Valid {
            let run = case.program.run::<f32>(&case.settings, &case.inputs, &Plain::new(Arithmetic::PLAIN)).unwrap();
            written = run.trace.entries.into_iter().map(|e| (e.name, e.values.mapv(f64::from))).collect();
            let entry = suite.manifest.cases.iter().find(|entry| entry.id == case.id).unwrap();
            let loaded = suite.load(entry).unwrap();
            let way = Way { autograd: true, single: true, until: Until::End };
            if let Some(values) = Planting::new(&loaded).unwrap().values(mistakes, way) {
                written.extend(values);
            }
        }
        change(&case.id, &mut written);
        let mut writer = TensorWriter::default();
        for (name, values) in &written {
            writer.add(name.as_str(), &values.view());
        }
        if !written.is_empty() {
            writer.write_safetensors(&out.join(format!("{}.safetensors", case.id)), None).unwrap();
        }
    }
    check_against(&suite, &out, Profile::F32, checking, None, |_| ()).unwrap()
}

/// The page, after a check that every element is closed and that it needs no other files.
fn page(checkup: &CheckReport) -> String {
    const VOID: [&str; 2] = ["meta", "br"];
    let page = golden_page(checkup);
    assert_eq!(page, golden_page(checkup), "the same checkup gives the same bytes");
    let mut open: Vec<&str> = Vec::new();
    for tag in page.split('<').skip(2).map(|rest| rest.split('>').next().unwrap_or_default()) {
        let name = tag.trim_start_matches('/').split(' ').next().unwrap_or_default();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "</{name}>");
        } else if !tag.ends_with('/') && !VOID.contains(&name) {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?} not closed");
    for foreign in ["<script", "<link", "<img", "http:", "https:", "src=", "@import", "url(h"] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    page
}

fn holds(page: &str, all: &[&str]) {
    for text in all {
        assert!(page.contains(text), "{text} is not in the page");
    }
}

#[test]
fn a_backend_that_is_right_passes() {
    let checkup = checkup(&["model-vsepp", "gru-sequence-three-layers"], &[], &CheckOptions::default(), |_, _| ());
    let page = page(&checkup);
    assert!(checkup.passed);
    holds(
        &page,
        &["<title>Golden check passed: small, f32</title>", "Passed: 2 cases within tolerance", "No stage breaks"],
    );
    holds(
        &page,
        &[">gru layer 2<", ">∂ gru layer 0<", "Every tensor of every case was found", "<code>opt.param.*</code>"],
    );
    for not in ["First divergence", "id=\"pictures\"", "breaks first", "✗ failed</span></td>"] {
        assert!(!page.contains(not), "{not}");
    }
}

#[test]
fn a_known_mistake_is_named_and_shown() {
    let ids = ["linear-small", "reset-h3-differ", "gru-sequence-one-to-t", "model-vsepp"];
    let checkup = checkup(&ids, &[named("reset-before-product")], &CheckOptions::default(), |_, _| ());
    let page = page(&checkup);
    let first = checkup.first.as_ref().and_then(|first| first.tensor.as_ref()).unwrap();
    holds(&page, &["Golden check failed", "Failed: 3 of 4 cases", "First divergence", "breaks first"]);
    holds(
        &page,
        &[&format!("<code>{}</code> in case <code>reset-h3-differ</code>", first.name), &format!("{:?}", first.index)],
    );
    holds(&page, &["These are the values of the reset gate applied before the product", "To fix it:"]);
    holds(&page, &["in 3 failing cases: <code>reset-h3-differ</code>", "<path class=\"p\""]);
    assert_eq!(page.matches("<figure>").count(), 3);
}

#[test]
fn what_no_known_mistake_gives_is_told_plainly() {
    let checkup = checkup(&["linear-small", "model-vsepp"], &[], &CheckOptions::default(), |id, written| {
        if id == "linear-small" {
            written.get_mut("out.y").unwrap().mapv_inplace(|x| x * 1.5 + 0.25);
        }
    });
    holds(&page(&checkup), &["No known mistake reproduces these values.", "<code>linear-small</code>"]);
}

#[test]
fn names_from_files_are_text() {
    let evil = "out.<script>alert(1)</script>\"'&";
    let mut checkup = checkup(&["linear-small"], &[], &CheckOptions::default(), |_, written| {
        written.insert(evil.into(), ArrayD::zeros(vec![2]));
        written.get_mut("out.y").unwrap().fill(0.0);
    });
    checkup.unknown_files.push("<b>\u{202e}zpn.npz".into());
    checkup.suite = "</title><script>".into();
    checkup.reports[0].id = "<i>'\"".into();
    holds(
        &page(&checkup),
        &["out.&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&amp;", "&lt;b&gt;\u{fffd}zpn.npz", "&lt;i&gt;"],
    );
}

#[test]
fn nothing_at_all_is_no_pass() {
    let checkup = checkup(&["linear-small"], &[], &CheckOptions::default(), |_, written| written.clear());
    holds(&page(&checkup), &["Failed: nothing was compared", "Cases without any tensor: 1"]);
}

#[test]
fn no_tensor_is_too_odd() {
    let ids = [
        "gru-sequence-one-to-t",
        "linear-small",
        "l2norm-small",
        "loss-mh-b7-m0.2",
        "model-vsepp",
        "rejected-zero-row",
    ];
    let ids: Vec<&str> = ids.into_iter().filter(|id| CORE.iter().any(|case| case.id == *id)).collect();
    let odd: [Change; 7] = [
        |x| Some(x.mapv(|_| f64::NAN)),
        |x| Some(x.mapv(|x| x / 0.0)),
        |x| Some(x.mapv(|x| x * 1e300)),
        |_| Some(ArrayD::zeros(vec![0])),
        |_| Some(ArrayD::zeros(vec![3, 0, 2])),
        |_| Some(ArrayD::zeros(Vec::new())),
        |_| None,
    ];
    let complete = CheckOptions { complete: true, ..CheckOptions::default() };
    for change in odd {
        let checkup = checkup(&ids, &[], &complete, |_, written| {
            *written = written.iter().filter_map(|(name, x)| Some((name.clone(), change(x)?))).collect();
            written.insert("out.odd".into(), ArrayD::zeros(vec![1]));
        });
        assert!(!checkup.passed);
        holds(&page(&checkup), &["Golden check failed", "rejected-zero-row"]);
    }
}

#[test]
fn no_checkup_is_too_damaged() {
    let fresh = || {
        checkup(
            &["gru-sequence-one-to-t", "l2norm-small"],
            &[named("norm-over-columns"), named("reset-before-product")],
            &CheckOptions::default(),
            |_, _| (),
        )
    };
    let damages: [fn(&mut CheckReport); 7] = [
        |c| c.checked.iter_mut().for_each(|case| case.golden.expected.clear()),
        |c| c.checked.iter_mut().for_each(|case| case.golden.entry.tensors.clear()),
        |c| c.checked.iter_mut().for_each(|case| case.found.clear()),
        |c| {
            for case in &mut c.checked {
                case.golden.inputs.insert("in.lengths".into(), ArrayD::zeros(vec![1]));
            }
        },
        |c| {
            let tensors = c.checked.iter_mut().flat_map(|case| &mut case.report.tensors);
            tensors.for_each(|tensor| tensor.index.iter_mut().for_each(|at| *at = usize::MAX));
        },
        |c| {
            let odd = Deviation { max: f64::NAN, frobenius: 0.0, bias: -1.0 };
            let tensors = c.checked.iter_mut().flat_map(|case| &mut case.report.tensors);
            tensors.for_each(|tensor| (tensor.tolerance, tensor.units) = (Some(odd), Some(f64::NAN)));
        },
        |c| {
            for case in &mut c.checked {
                case.golden.expected.values_mut().for_each(|x| *x = ArrayD::zeros(vec![x.len()]));
                case.found.values_mut().for_each(|x| x.values = ArrayD::from_elem(vec![x.values.len()], f64::NAN));
            }
            c.stages.clear();
            c.checked.truncate(1);
        },
    ];
    for damage in damages {
        let mut checkup = fresh();
        damage(&mut checkup);
        page(&checkup);
    }
}
