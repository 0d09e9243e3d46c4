//! The store's promises, each with a test that fails when it is broken.

#[cfg(test)]
mod change;
#[cfg(test)]
mod clock;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod damage;
#[cfg(test)]
mod full;
#[cfg(test)]
mod history;
#[cfg(test)]
mod model;
#[cfg(test)]
mod restart;
#[cfg(test)]
mod rows;
#[cfg(test)]
mod skip;
#[cfg(test)]
mod support;
#[cfg(test)]
mod upgrade;
