//! What a run came by.

/// What a run came by. A run of many seeds that missed one of these proves less than it seems to.
#[derive(Debug, Default, Clone)]
pub struct Reached {
    pub(super) coordinator_crashes: u64,
    pub(super) agent_crashes: u64,
    pub(super) cuts: u64,
    pub(super) freezes_past_a_right: u64,
    pub(super) refused_at_send: u64,
    pub(super) halted_at_send: u64,
    pub(super) changes_in_force: u64,
    pub(super) changes_waited: u64,
    pub(super) sends_at_the_budget: u64,
    pub(super) drains: u64,
    pub(super) drained_at_work: u64,
    pub(super) cancels: u64,
    pub(super) several_scans: u64,
    pub(super) renewals_after_a_right: u64,
    pub(super) out_of_scope: u64,
    pub(super) given_back: u64,
    pub(super) fenced_or_duplicate: u64,
    pub(super) late_reports_of_returned_leases: u64,
    pub(super) two_live_instances: u64,
    pub(super) leases_let_go: u64,
    pub(super) killed_by_a_target: u64,
    pub killed_before_a_write: u64,
    pub killed_inside_a_write: u64,
    pub killed_before_the_answer: u64,
    pub(super) virtual_seconds: u64,
}

impl Reached {
    fn fields(&self) -> [(&'static str, u64); 24] {
        [
            ("coordinator_crashes", self.coordinator_crashes),
            ("agent_crashes", self.agent_crashes),
            ("cuts", self.cuts),
            ("freezes_past_a_right", self.freezes_past_a_right),
            ("refused_at_send", self.refused_at_send),
            ("halted_at_send", self.halted_at_send),
            ("changes_in_force", self.changes_in_force),
            ("changes_waited", self.changes_waited),
            ("drains", self.drains),
            ("drained_at_work", self.drained_at_work),
            ("cancels", self.cancels),
            ("several_scans", self.several_scans),
            ("renewals_after_a_right", self.renewals_after_a_right),
            ("out_of_scope", self.out_of_scope),
            ("given_back", self.given_back),
            ("sends_at_the_budget", self.sends_at_the_budget),
            ("fenced_or_duplicate", self.fenced_or_duplicate),
            ("late_reports_of_returned_leases", self.late_reports_of_returned_leases),
            ("two_live_instances", self.two_live_instances),
            ("leases_let_go", self.leases_let_go),
            ("killed_by_a_target", self.killed_by_a_target),
            ("killed_before_a_write", self.killed_before_a_write),
            ("killed_inside_a_write", self.killed_inside_a_write),
            ("killed_before_the_answer", self.killed_before_the_answer),
        ]
    }

    pub fn missing(&self) -> Vec<&'static str> {
        self.fields().into_iter().filter(|(_, count)| *count == 0).map(|(name, _)| name).collect()
    }

    pub fn add(&mut self, other: &Self) {
        self.coordinator_crashes += other.coordinator_crashes;
        self.agent_crashes += other.agent_crashes;
        self.cuts += other.cuts;
        self.freezes_past_a_right += other.freezes_past_a_right;
        self.refused_at_send += other.refused_at_send;
        self.halted_at_send += other.halted_at_send;
        self.changes_in_force += other.changes_in_force;
        self.changes_waited += other.changes_waited;
        self.drains += other.drains;
        self.drained_at_work += other.drained_at_work;
        self.cancels += other.cancels;
        self.several_scans += other.several_scans;
        self.renewals_after_a_right += other.renewals_after_a_right;
        self.out_of_scope += other.out_of_scope;
        self.given_back += other.given_back;
        self.sends_at_the_budget += other.sends_at_the_budget;
        self.fenced_or_duplicate += other.fenced_or_duplicate;
        self.late_reports_of_returned_leases += other.late_reports_of_returned_leases;
        self.two_live_instances += other.two_live_instances;
        self.leases_let_go += other.leases_let_go;
        self.killed_by_a_target += other.killed_by_a_target;
        self.killed_before_a_write += other.killed_before_a_write;
        self.killed_inside_a_write += other.killed_inside_a_write;
        self.killed_before_the_answer += other.killed_before_the_answer;
        self.virtual_seconds += other.virtual_seconds;
    }
}
