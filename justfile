# The cheapest checks come first. `just` runs all of them, as .ci/run does.

default: fmt lint test doc

# Formatting
fmt:
    cargo fmt --check

# Lints
lint:
    cargo clippy --all-targets -- -D warnings
    cargo clippy --all-targets --no-default-features -- -D warnings
    cargo clippy --all-targets --no-default-features --features files -- -D warnings

# Tests: the command in README
test:
    cargo test --release

# Documentation, without broken links
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps

# Every gradient, as a table
gradcheck:
    cargo run --release -- gradcheck --blocks

# Training, encoding and ranking, compared with the machine's own peak
bench *ARGS:
    cargo run --release -- bench {{ARGS}}

# The same in PyTorch, JAX and candle, if they are installed
peers *ARGS:
    cargo bench --bench peers -- {{ARGS}}

# Make the golden suite again (the bytes must not change)
golden:
    cargo run --release -- golden make --out fixtures/golden --force

# The PyTorch, NumPy, C and Triton backends on the golden suite (python needs torch, numpy, safetensors; triton if there)
backends PYTHON="python3":
    examples/backends/run_all.sh {{PYTHON}}

# The Python package: built in a fresh virtual environment, and tested
python:
    .ci/python

# SH against MH on the built-in scenes, five seeds
crossing:
    cargo run --release --example crossing

# The figures of the docs; cost.svg shows times, so make it on an idle machine
figures:
    UPDATE=1 cargo test --release --lib scenes::sheet
    cargo run --release --example crossing 5 docs/figures/crossing.svg
    cargo bench --bench cost -- docs/figures/cost.svg
