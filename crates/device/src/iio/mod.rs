//! Buffers of Linux Industrial I/O: a trigger makes a chip measure, the kernel
//! keeps what it measured with its time, and we fetch many at once.
//!
//! The kernel's Documentation/driver-api/iio/buffers.rst and
//! Documentation/ABI/testing/sysfs-bus-iio, "scan_elements" and "buffer".

mod buffer;
mod element;

pub(crate) use buffer::{Buffer, Column, LENGTH_MAX, Wanted};
