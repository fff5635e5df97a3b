//! Punkt's English parameters, as far as lower-cased text can reach them.
//!
//! Written by `fixtures/tokenizer/make_punkt_tables.py`; do not edit. Source: NLTK's `punkt_tab`
//! data for English, learnt from the Wall Street Journal part of the Penn Treebank
//! (SHA-256 of its four files, one after another:
//! `87b7437941fb4df13edcd8cad64ff370f548f8c3e9503a795e05bef42bf34bdc`).
//! The script also checks why the rest can be left out: 37 collocations,
//! 39 frequent sentence starters and the contexts of 20362 words.

/// Word types, without the final period, that are abbreviations: a period after one of these does
/// not end a sentence. Sorted by code point.
pub(super) static ABBREVIATIONS: [&str; 156] = [
    ". . ", "a.a", "a.c", "a.d", "a.g", "a.h", "a.m", "a.m.e", "a.s", "a.t", "adm", "ala", "ariz", "aug", "ave", "b.f",
    "b.v", "bros", "c", "c.i.t", "c.o.m.b", "c.v", "calif", "chg", "cie", "co", "col", "colo", "conn", "corp", "cos",
    "ct", "d", "d.c", "d.h", "d.w", "dec", "dr", "e", "e.f", "e.h", "e.l", "e.m", "f", "f.g", "f.j", "feb", "fla",
    "fri", "ft", "g", "g.d", "g.f", "g.k", "ga", "gen", "h", "h.c", "h.f", "h.m", "i.m.s", "ill", "inc", "j.b", "j.c",
    "j.j", "j.k", "j.p", "j.r", "jan", "jr", "k", "kan", "ky", "l", "l.a", "l.f", "l.p", "lt", "ltd", "m", "m.b.a",
    "m.d.c", "m.j", "maj", "messrs", "mg", "mich", "minn", "mr", "mrs", "ms", "n", "n.c", "n.d", "n.h", "n.j", "n.m",
    "n.v", "n.y", "nev", "nov", "oct", "ok", "okla", "ore", "p", "p.a.m", "p.m", "pa", "ph.d", "prof", "r", "r.a",
    "r.h", "r.i", "r.j", "r.k", "r.t", "rep", "reps", "s", "s.a", "s.a.y", "s.c", "s.g", "s.p.a", "s.s", "sen", "sep",
    "sept", "sr", "st", "sw", "t", "t.j", "tenn", "tues", "u.k", "u.n", "u.s", "u.s.a", "u.s.s.r", "v", "va", "vs",
    "vt", "w", "w.c", "w.r", "w.va", "w.w", "wash", "wed", "wis", "yr",
];

/// The only lower-case words that may begin a sentence after an initial or a number ("room 5.
/// administrators …"): in training they were seen to begin one in lower case and were never seen
/// in upper case. Sorted by code point.
pub(super) static LOWER_CASE_STARTERS: [&str; 4] = ["administrators", "b-week", "r-revised", "z-holiday"];
