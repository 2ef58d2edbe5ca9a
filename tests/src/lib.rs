//! What portsweep is tested with: the lab ([`lab`]), in which hosts are network namespaces of this
//! machine that nothing can leave.
//!
//! The tests themselves are beside this library, in directories named after what they need:
//! `netns/` (the real binary in namespaces), `tidy/` (the repository's own rules), `bench/`
//! (against other scanners).

pub mod lab;
