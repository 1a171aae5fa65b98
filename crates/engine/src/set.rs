//! The set: catalogue and rules, under one number.
//!
//! An installation counts and judges by one set at a time. `fenghuo.sets` holds every set that ever
//! was, in order; the last one is in force, and its number is its place there. Ingest names it in
//! each commit, and evaluate goes on under it from that commit on: so a fold of the panes meets each
//! set where it came into force, whichever instance reads them, and however often.

use std::sync::{Arc, PoisonError, RwLock};

use fenghuo_alert::Rules;
use fenghuo_signal::Catalogue;
use fenghuo_signal::catalogue::File;

use crate::record::{FileRow, SetRow, VERSION};

/// Catalogue and rules.
#[derive(Clone, Debug)]
pub struct Set {
    /// Its place among all sets, from 1 on; 0 = it has none.
    pub number: u64,
    /// What is counted and read.
    pub catalogue: Arc<Catalogue>,
    /// What is judged.
    pub rules: Arc<Rules>,
}

impl Set {
    /// A set that has no place yet.
    pub fn new(catalogue: Arc<Catalogue>, rules: Arc<Rules>) -> Self {
        Self {
            number: 0,
            catalogue,
            rules,
        }
    }

    /// What Fenghuo comes with.
    ///
    /// # Panics
    /// Never: its files are compiled by every test run.
    pub fn built_in() -> Self {
        let catalogue = Catalogue::built_in();
        match Rules::builtin(&catalogue.signal_names()) {
            Ok(rules) => Self::new(catalogue, Arc::new(rules)),
            Err(mistake) => unreachable!("the built-in rules have a mistake: {mistake}"),
        }
    }

    /// The same at a place.
    #[must_use]
    pub fn at(&self, number: u64) -> Self {
        Self {
            number,
            ..self.clone()
        }
    }

    /// Tells one set from another by what it says: equal files of the same build have the same.
    pub fn hash(&self) -> u64 {
        self.row().hash()
    }

    /// Whether both say the same, whatever their files are called.
    pub(crate) fn is_like(&self, row: &SetRow) -> bool {
        let texts = |row: &SetRow| -> Vec<String> {
            row.files.iter().map(|file| file.text.clone()).collect()
        };
        let own = self.row();
        own.catalogue == row.catalogue && own.texts == row.texts && texts(&own) == texts(row)
    }

    /// Its record.
    pub fn row(&self) -> SetRow {
        let files = self.catalogue.own_files().iter();
        SetRow {
            version: VERSION,
            texts: self.rules.texts().to_vec(),
            catalogue: self.catalogue.hash(),
            files: files
                .map(|file| FileRow {
                    name: file.name.clone(),
                    text: file.text.clone(),
                })
                .collect(),
            number: self.number,
        }
    }

    /// The set of a record; `None` where this build cannot make it, since its own part is another.
    pub fn read(row: &SetRow) -> Option<Self> {
        let files = row.files.iter().map(|file| File {
            name: file.name.clone(),
            text: file.text.clone(),
        });
        let catalogue = Catalogue::compile(&files.collect::<Vec<_>>()).ok()?;
        if catalogue.hash() != row.catalogue {
            return None;
        }
        let rules = rules(&row.texts, &catalogue)?;
        Some(Self {
            number: row.number,
            catalogue: Arc::new(catalogue),
            rules: Arc::new(rules),
        })
    }
}

impl SetRow {
    /// Tells one set from another by what it says: where its files lie is the machine's business.
    pub fn hash(&self) -> u64 {
        let mut hash = xxhash_rust::xxh3::Xxh3::new();
        let mut text = |text: &str| {
            hash.update(&(text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        };
        self.texts.iter().for_each(|of| text(of));
        text("");
        for file in &self.files {
            text(&file.text);
        }
        hash.update(&self.catalogue.to_le_bytes());
        hash.digest()
    }
}

/// Rules from texts, laid over each other; `None` where this build does not understand them.
pub(crate) fn rules(texts: &[String], catalogue: &Catalogue) -> Option<Rules> {
    let names = catalogue.signal_names();
    let mut rules = Rules::default();
    for text in texts {
        rules = rules.with(crate::record::topic::SETS, text, &names).ok()?;
    }
    Some(rules)
}

/// The set that is in force, shared by all who count, judge and show.
#[derive(Clone, Debug)]
pub struct InForce(Arc<RwLock<Arc<Set>>>);

impl InForce {
    /// This one, for now.
    pub fn new(set: Set) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(set))))
    }

    /// The one that is in force now.
    pub fn get(&self) -> Arc<Set> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// This one from now on. Ingest takes it up after its next commit.
    pub fn put(&self, set: Set) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(set);
    }

    /// What a record says, where this build can make it: shared with the one in force where that
    /// says the same.
    pub(crate) fn make(&self, row: &SetRow) -> Option<Arc<Set>> {
        let current = self.get();
        match (current.is_like(row), current.number == row.number) {
            (true, true) => Some(current),
            (true, false) => Some(Arc::new(current.at(row.number))),
            (false, _) => Set::read(row).map(Arc::new),
        }
    }
}
