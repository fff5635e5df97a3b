use super::*;
use crate::data::Source;
use crate::data::batches::EpochOrder;
use crate::data::scenes::ScenesConfig;
use crate::model::{Config, Statistics};
use crate::train::{Ignore, Pace};
use ndarray::Array2;
use std::sync::Arc;

fn config() -> Config {
    Config {
        embed_size: 16,
        word_dim: 8,
        num_epochs: 3,
        learning_rate: 5e-3,
        batch_size: 32,
        val_step: 3,
        word_threshold: 1,
        ..Config::default()
    }
}

fn data() -> (Vocabulary, TrainingData) {
    let world = ScenesConfig { train: 40, dev: 10, test: 0, ..ScenesConfig::default() };
    let [train, dev] = Source::Scenes(world).splits(["train", "dev"]).unwrap();
    let vocabulary = Vocabulary::build(&train.captions, 1);
    let [train, dev] = [train, dev].map(|split| Pairs::encode(split, &vocabulary).unwrap());
    (vocabulary, TrainingData { train, dev })
}

fn change_image(Pairs { split, .. }: &mut Pairs, at: [usize; 2], change: impl Fn(f32) -> f32) {
    let mut features = split.images.to_array().unwrap();
    features[at] = change(features[at]);
    split.images = features.into();
}

/// Sets the stop signal after a number of steps.
struct StopAfter<'a> {
    steps: u64,
    stop: &'a AtomicBool,
    epochs: Vec<EpochReport>,
}

impl Observer for StopAfter<'_> {
    fn event(&mut self, event: &Event<'_>) -> Result<()> {
        match event {
            Event::Step(step) if step.step >= self.steps => self.stop.store(true, Ordering::Relaxed),
            Event::EpochEnded(report) => {
                let report = (*report).clone();
                self.epochs.push(EpochReport { seconds: 0.0, pairs_per_second: 0.0, waiting: 0.0, ..report });
            }
            _ => {}
        }
        Ok(())
    }
}

fn train(config: &ValidConfig, threads: usize) -> Trainer {
    let (vocabulary, data) = data();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| {
        let mut trainer = Trainer::new(config.clone(), &vocabulary, data.train.split.img_dim().unwrap()).unwrap();
        trainer.run(&data, None, &mut Ignore, &AtomicBool::new(false)).unwrap();
        trainer
    })
}

#[test]
fn training_learns_and_gives_the_same_bits_on_any_number_of_threads() {
    let config = config().check().unwrap();
    let (one, three) = (train(&config, 1), train(&config, 3));
    assert_eq!(one.model, three.model);
    assert_eq!(one.adam, three.adam);
    // Chance: R@1 + R@5 + R@10 of 10 images both ways is about 10 + 50 + 100 for captions, less for images.
    let best = one.progress.best.unwrap();
    let (_, data) = data();
    let untrained = Trainer::new(config, &data_vocabulary(), data.train.split.img_dim().unwrap())
        .unwrap()
        .evaluate(&data.dev)
        .unwrap();
    assert!(best.dev.rsum > untrained.rsum + 20.0, "{} against {}", best.dev.rsum, untrained.rsum);
}

#[test]
fn drawn_negatives_are_the_same_after_a_stop_and_on_any_number_of_threads() {
    let config = Config { negatives: 5, mask_equal_text: true, num_epochs: 2, val_step: 0, ..config() };
    let config = config.check().unwrap();
    let (one, three) = (train(&config, 1), train(&config, 3));
    assert_eq!((&one.model, &one.adam), (&three.model, &three.adam));
    let (vocabulary, data) = data();
    let folder = tempfile::tempdir().unwrap();
    let run = Run::create(folder.path(), false).unwrap();
    run.begin(&config, &vocabulary).unwrap();
    let stop = AtomicBool::new(false);
    let mut observer = StopAfter { steps: 5, stop: &stop, epochs: Vec::new() };
    let mut first = Trainer::new(config.clone(), &vocabulary, data.train.split.img_dim().unwrap()).unwrap();
    assert_eq!(first.run(&data, Some(&run), &mut observer, &stop).unwrap(), Outcome::Interrupted);
    drop(run);
    let run = Run::reopen(folder.path()).unwrap();
    let mut second = Trainer::resume(config.clone(), &vocabulary, data.train.split.img_dim().unwrap(), &run).unwrap();
    second.run(&data, Some(&run), &mut Ignore, &AtomicBool::new(false)).unwrap();
    assert_eq!((&second.model, &second.adam), (&one.model, &one.adam));

    let other = train(&Config { negatives: 6, ..config.clone().into_inner() }.check().unwrap(), 1);
    assert_ne!(other.model, one.model);
    // As many as there are: all, to the bit.
    let all = Config { negatives: 0, mask_equal_text: false, ..config.into_inner() };
    let enough = Config { negatives: all.batch_size - 1, ..all.clone() };
    assert_eq!(train(&enough.check().unwrap(), 1).model, train(&all.check().unwrap(), 1).model);
}

#[test]
fn one_hardest_negative_is_mh_and_all_are_sh_to_the_bit_after_25_steps() {
    let base = Config { num_epochs: 4, ..config() };
    let numbers = |config: Config| {
        let Trainer { model, adam, progress, .. } = train(&config.check().unwrap(), 1);
        assert!(progress.step >= 25, "{}", progress.step);
        (model, adam, progress.best)
    };
    let mh = numbers(Config { hardest: 1, ..base.clone() });
    assert_eq!(numbers(Config { warmup_epochs: 0, ..base.clone() }), mh);
    let sh = numbers(Config { max_violation: false, ..base.clone() });
    assert_eq!(numbers(Config { hardest: base.batch_size - 1, ..base.clone() }), sh);
    for other in [
        Config { hardest: 3, ..base.clone() },
        Config { temperature: 0.05, ..base.clone() },
        Config { semi_hard: true, ..base },
    ] {
        let other = numbers(other);
        assert!(other != mh && other != sh);
    }
}

fn data_vocabulary() -> Vocabulary {
    data().0
}

#[test]
fn a_run_that_was_stopped_anywhere_goes_on_with_the_same_bits() {
    let config = config().check().unwrap();
    let (vocabulary, data) = data();
    let img_dim = data.train.split.img_dim().unwrap();
    let never = AtomicBool::new(false);
    let mut straight = Trainer::new(config.clone(), &vocabulary, img_dim).unwrap();
    let mut seen = StopAfter { steps: u64::MAX, stop: &never, epochs: Vec::new() };
    straight.run(&data, None, &mut seen, &never).unwrap();
    for steps in [1, 5, 7, 8, 14] {
        let folder = tempfile::tempdir().unwrap();
        let run = Run::create(folder.path(), false).unwrap();
        run.begin(&config, &vocabulary).unwrap();
        let stop = AtomicBool::new(false);
        let mut observer = StopAfter { steps, stop: &stop, epochs: Vec::new() };
        let mut first = Trainer::new(config.clone(), &vocabulary, img_dim).unwrap();
        assert_eq!(first.run(&data, Some(&run), &mut observer, &stop).unwrap(), Outcome::Interrupted);
        stop.store(false, Ordering::Relaxed);
        observer.steps = u64::MAX;
        drop(run);
        let run = Run::reopen(folder.path()).unwrap();
        let mut second = Trainer::resume(config.clone(), &vocabulary, img_dim, &run).unwrap();
        assert_eq!(second.progress.step, steps);
        assert_eq!(second.run(&data, Some(&run), &mut observer, &stop).unwrap(), Outcome::Finished);
        assert_eq!((&second.model, &second.adam), (&straight.model, &straight.adam), "stopped after {steps}");
        assert_eq!(second.progress.best, straight.progress.best);
        assert_eq!(observer.epochs, seen.epochs, "the figures of the epochs too");
    }
}

/// Pictures of two colours, each with two captions, in files of a folder.
fn pictures(folder: &std::path::Path) -> (Vocabulary, TrainingData) {
    use crate::data::pictures::encode;
    use crate::data::{Crops, Picture, PictureFiles, RandomCrop};
    let words = ["red", "green", "blue", "dark"];
    let split = |name: &str, count: usize| {
        let file = |k: usize| {
            let path = folder.join(format!("{name}{k}.png"));
            let colour = |pixel: usize| {
                let of = if pixel % 20 < 9 { k % 4 } else { k / 4 % 4 };
                (0..3).map(move |c| if c == of { 200 + (pixel % 17) as u8 } else { (pixel % 13) as u8 })
            };
            let rgb = (0..20 * 18).flat_map(colour).collect();
            std::fs::write(&path, encode(&Picture { width: 20, height: 18, rgb })).unwrap();
            path
        };
        let crops = Crops { resize: 16, crop: 14, random: Some(RandomCrop::Today), upright: false };
        let store = PictureFiles::new((0..count).map(file).collect(), crops).unwrap();
        let captions =
            |k: usize| [format!("{} and {}", words[k % 4], words[k / 4 % 4]), format!("a {} one", words[k % 4])];
        Split::from_store(name, Arc::new(store), (0..count).flat_map(captions).collect()).unwrap()
    };
    let (train, dev) = (split("train", 12), split("dev", 4));
    let vocabulary = Vocabulary::build(&train.captions, 1);
    let [train, dev] = [train, dev].map(|split| Pairs::encode(split, &vocabulary).unwrap());
    (vocabulary, TrainingData { train, dev })
}

#[test]
fn a_training_from_pictures_goes_on_with_the_same_bits_on_any_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let (vocabulary, data) = pictures(folder.path());
    let never = AtomicBool::new(false);
    for (statistics, network) in [
        (Statistics::Frozen, "resnet18,planes=2-3-4-5"),
        (Statistics::Original, "resnet18,planes=2-3-4-5"),
        (Statistics::Train, "resnet20,planes=2-4-6"),
    ] {
        let config = Config {
            images: Some("x".into()),
            data: Some("x".into()),
            encoder: Some(network.parse().unwrap()),
            finetune: true,
            statistics,
            batch_size: 7,
            num_epochs: 2,
            ..config()
        };
        let config = config.check().unwrap();
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let mut trainer = Trainer::new(config.clone(), &vocabulary, 0).unwrap();
                trainer.run(&data, None, &mut Ignore, &never).unwrap();
                trainer
            })
        };
        let straight = on(1);
        assert_eq!((on(3).model, on(3).adam), (straight.model.clone(), straight.adam.clone()), "{statistics:?}");
        for steps in [1, 3, 5] {
            let folder = tempfile::tempdir().unwrap();
            let run = Run::create(folder.path(), false).unwrap();
            run.begin(&config, &vocabulary).unwrap();
            let stop = AtomicBool::new(false);
            let mut observer = StopAfter { steps, stop: &stop, epochs: Vec::new() };
            let mut first = Trainer::new(config.clone(), &vocabulary, 0).unwrap();
            assert_eq!(first.run(&data, Some(&run), &mut observer, &stop).unwrap(), Outcome::Interrupted);
            drop(run);
            let run = Run::reopen(folder.path()).unwrap();
            let mut second = Trainer::resume(config.clone(), &vocabulary, 0, &run).unwrap();
            second.run(&data, Some(&run), &mut Ignore, &never).unwrap();
            assert_eq!((&second.model, &second.adam), (&straight.model, &straight.adam), "{statistics:?}, {steps}");
        }
        // The running statistics move with the batch's alone.
        let (before, mut moved) = (Trainer::new(config.clone(), &vocabulary, 0).unwrap(), 0);
        let after = straight.model.parameters.tensors().into_iter();
        for ((name, before), (_, after)) in before.model.parameters.tensors().into_iter().zip(after) {
            moved += usize::from(name.contains("running") && before != after);
            assert!(name.contains("running") || before != after, "{name} did not move");
        }
        assert_eq!(moved == 0, statistics == Statistics::Frozen, "{statistics:?}");
    }
}

#[test]
fn the_original_uses_running_statistics_after_an_epochs_first_validation() {
    let folder = tempfile::tempdir().unwrap();
    let (vocabulary, _) = pictures(folder.path());
    let mode_after = |statistics, step, batch| {
        let paths = Config { images: Some("x".into()), data: Some("x".into()), ..config() };
        let encoder = Some("resnet20,planes=2-4-6".parse().unwrap());
        let config = Config { encoder, statistics, val_step: 500, ..paths }.check().unwrap();
        let mut trainer = Trainer::new(config, &vocabulary, 0).unwrap();
        (trainer.progress.step, trainer.progress.batch) = (step, batch);
        trainer.mode()
    };
    for (step, batch) in [(0, 0), (499, 499), (500, 500), (4426, 0), (4426, 4426), (4499, 73), (4500, 74)] {
        let expected = match (step, batch) {
            (500, 500) | (4426, 4426) | (4500, 74) => Mode::Eval,
            _ => Mode::Train,
        };
        assert_eq!(mode_after(Statistics::Original, step, batch), expected, "{step} {batch}");
        assert_eq!(mode_after(Statistics::Frozen, step, batch), Mode::Eval);
        assert_eq!(mode_after(Statistics::Train, step, batch), Mode::Train);
    }
}

#[test]
fn a_second_stage_begins_with_the_numbers_of_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let (vocabulary, data) = pictures(folder.path());
    let paths = Config { images: Some("x".into()), data: Some("x".into()), batch_size: 7, num_epochs: 1, ..config() };
    let with = |encoder: &str, finetune| {
        let config = Config { encoder: Some(encoder.parse().unwrap()), finetune, ..paths.clone() };
        Trainer::new(config.check().unwrap(), &vocabulary, 0).unwrap()
    };
    let mut first = with("resnet18,planes=2-3-4-5", false);
    let before = first.model.parameters.clone();
    first.run(&data, None, &mut Ignore, &AtomicBool::new(false)).unwrap();
    let after = &first.model.parameters;
    assert_eq!(after.img_enc.cnn, before.img_enc.cnn, "a frozen encoder");
    assert_ne!(after.img_enc.fc, before.img_enc.fc);
    assert!(first.adam.moments.iter().all(|moments| !moments.name.starts_with("img_enc.cnn")));

    let mut second = with("resnet18,planes=2-3-4-5", true);
    second.begin_with(&first.model).unwrap();
    assert_eq!(second.model.parameters, first.model.parameters);
    second.run(&data, None, &mut Ignore, &AtomicBool::new(false)).unwrap();
    assert_ne!(second.model.parameters.img_enc.cnn, first.model.parameters.img_enc.cnn);

    // After a stage on feature vectors the encoder is new.
    let features = Config { images: None, data: None, ..paths.clone() }.check().unwrap();
    let on_features = Trainer::new(features, &vocabulary, 5).unwrap();
    let mut third = with("resnet18,planes=2-3-4-5", true);
    third.begin_with(&on_features.model).unwrap();
    assert_eq!(third.model.parameters.img_enc.fc, on_features.model.parameters.img_enc.fc);
    let message = with("resnet18,planes=2-3-4-6", true).begin_with(&first.model).unwrap_err().to_string();
    assert!(
        message.starts_with("img_enc.cnn.layer4.0.conv1.weight: expected [6, 4, 3, 3], by the settings"),
        "{message}"
    );
}

/// The data as files: features in a `.npy` file, or in an npz.
fn written(data: &TrainingData, folder: &std::path::Path, archive: bool) {
    for Pairs { split, .. } in [&data.train, &data.dev] {
        let features = split.images.to_array().unwrap();
        let mut writer = crate::files::TensorWriter::default();
        writer.add("features", &features.view().into_dyn());
        let path = folder.join(format!("{}_ims", split.name));
        if archive {
            writer.write_npz(&path.with_extension("npz")).unwrap();
        } else {
            ndarray_npy::write_npy(path.with_extension("npy"), &features).unwrap();
        }
        std::fs::write(folder.join(format!("{}_caps.txt", split.name)), split.captions.join("\n")).unwrap();
    }
}

fn read(data: &TrainingData, folder: &std::path::Path) -> TrainingData {
    let [train, dev] = Source::Folder(folder.into()).splits(["train", "dev"]).unwrap();
    let mut data = data.clone();
    (data.train.split, data.dev.split) = (train, dev);
    data
}

#[test]
fn features_from_files_train_to_the_bits_of_features_in_memory() {
    let config = Config { num_epochs: 2, ..config() }.check().unwrap();
    let (vocabulary, data) = data();
    let train = |data: &TrainingData| {
        let mut trainer = Trainer::new(config.clone(), &vocabulary, data.train.split.img_dim().unwrap()).unwrap();
        trainer.run(data, None, &mut Ignore, &AtomicBool::new(false)).unwrap();
        (trainer.model, trainer.adam, trainer.progress.best, data.fingerprints().unwrap())
    };
    let expected = train(&data);
    for (archive, kind) in [(false, "RowFile"), (true, "Memory")] {
        let folder = tempfile::tempdir().unwrap();
        written(&data, folder.path(), archive);
        let from_files = read(&data, folder.path());
        assert!(format!("{:?}", from_files.train.split.images.store()).starts_with(kind));
        assert_eq!(train(&from_files), expected, "{kind}");
    }
}

#[cfg(unix)]
#[test]
fn a_file_that_changes_while_a_training_runs_ends_it() {
    use std::os::unix::fs::FileExt;
    /// Changes a number of every row at the second step.
    struct Change<'a>(&'a std::path::Path);
    impl Observer for Change<'_> {
        fn event(&mut self, event: &Event<'_>) -> Result<()> {
            if matches!(event, Event::Step(step) if step.step == 2) {
                let file = std::fs::OpenOptions::new().write(true).open(self.0).unwrap();
                for row in 0..40 {
                    file.write_all_at(&9.0f32.to_le_bytes(), 128 + row * 944 * 4).unwrap();
                }
            }
            Ok(())
        }
    }
    let (vocabulary, data) = data();
    let folder = tempfile::tempdir().unwrap();
    written(&data, folder.path(), false);
    let from_files = read(&data, folder.path());
    let mut trainer = Trainer::new(config().check().unwrap(), &vocabulary, 944).unwrap();
    let path = folder.path().join("train_ims.npy");
    let error = trainer.run(&from_files, None, &mut Change(&path), &AtomicBool::new(false)).unwrap_err().to_string();
    assert!(error.contains("train_ims.npy: row ") && error.contains("has changed since"), "{error}");
    assert!((2..=4).contains(&trainer.progress.step), "two batches were ready: {}", trainer.progress.step);
}

#[test]
fn batches_prepared_ahead_give_the_bits_of_batches_made_in_line() {
    let config = config().check().unwrap();
    let (vocabulary, data) = data();
    let mut in_line = Trainer::new(config.clone(), &vocabulary, data.train.split.img_dim().unwrap()).unwrap();
    for epoch in 0..config.num_epochs {
        let order = EpochOrder::new(data.train.ids.len(), config.batch_size, config.seed, epoch);
        for batch in 0..order.batches() {
            in_line.step(&order.batch(batch, &data.train).unwrap()).unwrap();
        }
        (in_line.progress.epoch, in_line.progress.batch) = (epoch + 1, 0);
    }
    let ahead = train(&config, 2);
    assert_eq!((&ahead.model, &ahead.adam), (&in_line.model, &in_line.adam));
}

#[test]
fn an_epoch_counts_the_time_that_it_waits_and_keeps_it_in_a_checkpoint() {
    struct Times(f64, Vec<EpochReport>);
    impl Observer for Times {
        fn event(&mut self, event: &Event<'_>) -> Result<()> {
            match event {
                Event::Step(step) => self.0 += step.seconds,
                Event::EpochEnded(report) => self.1.push((*report).clone()),
                _ => {}
            }
            Ok(())
        }
    }
    let (vocabulary, data) = data();
    let config = Config { num_epochs: 2, ..config() }.check().unwrap();
    let mut trainer = Trainer::new(config, &vocabulary, data.train.split.img_dim().unwrap()).unwrap();
    // As from a checkpoint in the middle of the epoch: hours, compared with which a step is negligible.
    (trainer.progress.totals.seconds, trainer.progress.totals.waiting) = (40_000.0, 10_000.0);
    let mut times = Times(0.0, Vec::new());
    trainer.run(&data, None, &mut times, &AtomicBool::new(false)).unwrap();
    let [first, second] = times.1.as_slice() else { panic!("expected two epochs") };
    let seconds = first.seconds + second.seconds;
    assert!(seconds >= 40_000.0 + times.0, "{} of steps in {seconds}", times.0);
    approx::assert_relative_eq!(first.pairs_per_second, 200.0 / first.seconds, max_relative = 1e-12);
    approx::assert_relative_eq!(first.waiting, 0.25, max_relative = 0.01);
    assert!(0.0 < second.waiting && second.waiting < 1.0, "some time is always waited: {}", second.waiting);
}

#[test]
fn images_of_another_size_are_refused() {
    let (vocabulary, mut data) = data();
    let mut trainer = Trainer::new(config().check().unwrap(), &vocabulary, 944).unwrap();
    data.dev.split.images = Array2::zeros((10, 3)).into();
    let error = trainer.run(&data, None, &mut Ignore, &AtomicBool::new(false)).unwrap_err().to_string();
    assert_eq!(error, "dev: expected image features of dimension F = 944, found 3");
}

#[test]
fn what_is_not_finite_is_not_saved() {
    let (vocabulary, data) = data();
    let folder = tempfile::tempdir().unwrap();
    // The first step is taken with a finite gradient, and its result is infinite.
    let config = Config { learning_rate: 1e300, ..config() }.check().unwrap();
    let run = Run::create(&folder.path().join("run"), false).unwrap();
    run.begin(&config, &vocabulary).unwrap();
    let stop = AtomicBool::new(false);
    let mut observer = StopAfter { steps: 1, stop: &stop, epochs: Vec::new() };
    let mut trainer = Trainer::new(config, &vocabulary, data.train.split.img_dim().unwrap()).unwrap();
    let error = trainer.run(&data, Some(&run), &mut observer, &stop).unwrap_err().to_string();
    assert!(error.contains("step 1, learning_rate = 1e300") && error.contains("diverged"), "{error}");
    assert!(!run.saved() && !run.folder().last().exists());
    drop(run);
    assert!(!folder.path().join("run").exists());
}

#[test]
fn an_observer_that_fails_at_the_last_batch_of_an_epoch_ends_the_training_with_its_error() {
    struct FullDisk;
    impl Observer for FullDisk {
        fn event(&mut self, event: &Event<'_>) -> Result<()> {
            match event {
                Event::Step(step) if step.batch == step.batches => Err(Error::mismatch("the disk is full")),
                _ => Ok(()),
            }
        }
    }
    let (vocabulary, data) = data();
    let config = config().check().unwrap();
    let mut trainer = Trainer::new(config, &vocabulary, data.train.split.img_dim().unwrap()).unwrap();
    let error = trainer.run(&data, None, &mut FullDisk, &AtomicBool::new(false)).unwrap_err();
    assert_eq!(error.to_string(), "the disk is full");
}

#[test]
fn a_collapsed_training_is_reported_once() {
    struct Reported(Vec<u64>);
    impl Observer for Reported {
        fn event(&mut self, event: &Event<'_>) -> Result<()> {
            if let Event::Collapsed(collapse) = event {
                approx::assert_relative_eq!(collapse.loss, 2.0 * 4.0 * 0.2, max_relative = 1e-4);
                self.0.push(collapse.step);
            }
            Ok(())
        }
    }
    let (vocabulary, data) = data();
    let config = Config { num_epochs: 9, batch_size: 4, learning_rate: 1e-9, ..config() }.check().unwrap();
    let mut trainer = Trainer::new(config, &vocabulary, data.train.split.img_dim().unwrap()).unwrap();
    // Every embedding the same: no weights, only biases.
    let parameters = &mut trainer.model.parameters;
    parameters.each_mut(|_, _, mut x| x.fill(0.0));
    parameters.img_enc.fc.bias.fill(0.5);
    parameters.txt_enc.rnn.layers[0].bias_ih.fill(0.3);
    let mut reported = Reported(Vec::new());
    trainer.run(&data, None, &mut reported, &AtomicBool::new(false)).unwrap();
    assert_eq!(reported.0, [400]);
}

#[test]
fn a_smaller_last_batch_weighs_no_more_than_its_pairs() {
    // 200 pairs in batches of 128 and 72.
    struct Losses(f64, f64);
    impl Observer for Losses {
        fn event(&mut self, event: &Event<'_>) -> Result<()> {
            match event {
                Event::Step(step) => self.0 += step.loss,
                Event::EpochEnded(epoch) => self.1 = epoch.loss_per_pair,
                _ => {}
            }
            Ok(())
        }
    }
    let (vocabulary, data) = data();
    let config = Config { num_epochs: 1, batch_size: 128, ..config() }.check().unwrap();
    let mut trainer = Trainer::new(config, &vocabulary, data.train.split.img_dim().unwrap()).unwrap();
    let mut losses = Losses(0.0, 0.0);
    trainer.run(&data, None, &mut losses, &AtomicBool::new(false)).unwrap();
    assert_eq!(trainer.progress.step, 2);
    approx::assert_relative_eq!(losses.1, losses.0 / 200.0, max_relative = 1e-14);
}

#[test]
fn fingerprints_are_pinned_and_see_every_number() {
    type Change = fn(&mut TrainingData, u8);
    let (_, mut data) = data();
    // Checkpoints hold them: if they change, no run can be resumed.
    let before = data.fingerprints().unwrap();
    assert_eq!(before.train, "200 captions of 40 images with 944 features, 57a9a2eff0194f5878b8dc9681a446cd");
    assert_eq!(before.dev, "50 captions of 10 images with 944 features, 987efb839b9ba1d03666efe25642b381");
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    assert_eq!(pool.install(|| data.fingerprints().unwrap()), before);
    let changes: [(Change, bool); 6] = [
        (|d, by| change_image(&mut d.train, [0, 302], |_| f32::from(by)), true),
        (|d, by| change_image(&mut d.train, [39, 943], |_| f32::from(by)), true),
        (|d, by| d.train.ids[199][1] = u32::from(by), true),
        (|d, by| d.train.split.image_of[5] = usize::from(by), true),
        (|d, by| change_image(&mut d.dev, [9, 0], |_| f32::from(by)), false),
        (|d, by| d.dev.ids[49][1] = u32::from(by), false),
    ];
    for (number, (change, in_train)) in changes.into_iter().enumerate() {
        change(&mut data, 5);
        let before = data.fingerprints().unwrap();
        change(&mut data, 6);
        let after = data.fingerprints().unwrap();
        assert_eq!((before.train != after.train, before.dev != after.dev), (in_train, !in_train), "change {number}");
    }
}

#[test]
fn what_does_not_fit_is_refused_on_resuming() {
    let (vocabulary, data) = data();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let config = Config { num_epochs: 1, ..config() }.check().unwrap();
    assert!(Run::reopen(&path).unwrap_err().to_string().contains("expected the folder of a run, found none"));
    let run = Run::create(&path, false).unwrap();
    run.begin(&config, &vocabulary).unwrap();
    let img_dim = data.train.split.img_dim().unwrap();
    let mut trainer = Trainer::new(config.clone(), &vocabulary, img_dim).unwrap();
    trainer.run(&data, Some(&run), &mut Ignore, &AtomicBool::new(false)).unwrap();
    drop(run);
    let run = Run::reopen(&path).unwrap();
    let message = |vocabulary: &Vocabulary, config: &ValidConfig| {
        Trainer::resume(config.clone(), vocabulary, img_dim, &run).unwrap_err().to_string()
    };
    let other = Vocabulary::build(&["a dog".to_owned()], 1);
    assert!(message(&other, &config).contains("does not fit the checkpoint"));
    let wider = Config { embed_size: 17, ..config.clone().into_inner() }.check().unwrap();
    assert!(message(&vocabulary, &wider).contains("embed_size = 17: expected 16"));
    for (split, spoil) in [
        ("train", (|d| change_image(&mut d.train, [3, 5], |x| x + 1.0)) as fn(&mut TrainingData)),
        ("dev", |d| change_image(&mut d.dev, [3, 5], |x| x + 1.0)),
    ] {
        let mut trainer = Trainer::resume(config.clone(), &vocabulary, img_dim, &run).unwrap();
        let mut other = data.clone();
        spoil(&mut other);
        let error = trainer.run(&other, Some(&run), &mut Ignore, &AtomicBool::new(false)).unwrap_err().to_string();
        let expected = format!("{split}: expected the data that the run was begun with (");
        assert!(error.starts_with(&expected), "{error}");
    }
    // A checkpoint with another number of steps, and otherwise correct.
    let (mut checkpoint, parameters, adam) = Checkpoint::read(&run.folder().last()).unwrap();
    checkpoint.progress.step += 1;
    checkpoint.write(&run.folder().last(), &parameters, adam.as_ref()).unwrap();
    let mut trainer = Trainer::resume(config, &vocabulary, img_dim, &run).unwrap();
    let error = trainer.run(&data, Some(&run), &mut Ignore, &AtomicBool::new(false)).unwrap_err().to_string();
    assert_eq!(error, "checkpoint: step: expected 7, after 1 epoch(s) of 7 batches and 0 batch(es), found 8");
}

/// The times by which the number of threads was chosen.
#[derive(Default)]
struct Chosen(Vec<Vec<Pace>>);

impl Observer for Chosen {
    fn event(&mut self, event: &Event<'_>) -> Result<()> {
        if let Event::ThreadsChosen(paces) = event {
            self.0.push(paces.to_vec());
        }
        Ok(())
    }
}

#[test]
fn the_fastest_number_of_threads_is_measured_and_changes_no_bit() {
    let (vocabulary, data) = data();
    let config = Config { val_step: 0, ..config() }.check().unwrap();
    let img_dim = data.train.split.img_dim().unwrap();
    let trained = |choose_threads, threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut trainer = Trainer::new(config.clone(), &vocabulary, img_dim).unwrap();
            trainer.choose_threads = choose_threads;
            let mut chosen = Chosen::default();
            trainer.run(&data, None, &mut chosen, &AtomicBool::new(false)).unwrap();
            (trainer.model, trainer.adam, chosen.0)
        })
    };
    let (model, adam, chosen) = trained(false, 3);
    assert!(chosen.is_empty());
    assert!(trained(true, 1).2.is_empty(), "there is no choice");
    let (same_model, same_adam, chosen) = trained(true, 3);
    assert_eq!((&model, &adam), (&same_model, &same_adam));
    assert_eq!(chosen.len(), config.num_epochs, "before the first epoch, and here after each but the last");
    for paces in chosen {
        let mut tried: Vec<usize> = paces.iter().map(|pace| pace.threads).collect();
        tried.sort_unstable();
        assert!(tried == [2, 3] || tried == [1, 2, 3], "{tried:?}");
        assert!(paces.iter().all(|pace| pace.seconds > 0.0 && pace.seconds * 1.02 >= paces[0].seconds), "{paces:?}");
    }
}

#[test]
fn what_is_wrong_with_a_batch_is_reported_by_its_step() {
    let (vocabulary, mut data) = data();
    let img_dim = data.train.split.img_dim().unwrap();
    change_image(&mut data.train, [7, 3], |_| f32::NAN);
    let message = |choose_threads| {
        let mut trainer = Trainer::new(config().check().unwrap(), &vocabulary, img_dim).unwrap();
        trainer.choose_threads = choose_threads;
        trainer.run(&data, None, &mut Ignore, &AtomicBool::new(false)).unwrap_err().to_string()
    };
    assert_eq!(message(true), message(false));
}
