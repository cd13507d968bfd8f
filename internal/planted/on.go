//go:build planted

package planted

import "time"

// Built says whether this build has the bugs.
const Built = true

var began = time.Now()

// Began is when the process did.
func Began() time.Time { return began }

// Those that were chosen are set. What each breaks is said in All.
var (
	AccountNotTold         bool
	AckBeforeSync          bool
	BlobAfterRecord        bool
	CheckpointLosesEntry   bool
	CheckpointWithoutSync  bool
	ChecksumIgnored        bool
	CommitBeforeFragments  bool
	CompactionDropsLive    bool
	ConflictAcknowledged   bool
	ContainerUpdateLost    bool
	CountOnlyGrows         bool
	CutUploadKept          bool
	DeleteRowForgotten     bool
	ETagNotChecked         bool
	ExpiresEarly           bool
	FragmentRebuiltWrong   bool
	HandoffDroppedEarly    bool
	ListingSkipsAtEdge     bool
	MergeLosesRow          bool
	OlderOverNewer         bool
	ParityWrong            bool
	PostLost               bool
	PostNotReplicated      bool
	PushNotSent            bool
	QueueLostAtRestart     bool
	QuorumOfOne            bool
	ResumeOffByOne         bool
	RowMergedWrong         bool
	RowsNotReplicated      bool
	TombstoneEarly         bool
	TombstoneNotReplicated bool
)

// switches are those, in the order of All.
var switches = [...]*bool{
	&AccountNotTold,
	&AckBeforeSync,
	&BlobAfterRecord,
	&CheckpointLosesEntry,
	&CheckpointWithoutSync,
	&ChecksumIgnored,
	&CommitBeforeFragments,
	&CompactionDropsLive,
	&ConflictAcknowledged,
	&ContainerUpdateLost,
	&CountOnlyGrows,
	&CutUploadKept,
	&DeleteRowForgotten,
	&ETagNotChecked,
	&ExpiresEarly,
	&FragmentRebuiltWrong,
	&HandoffDroppedEarly,
	&ListingSkipsAtEdge,
	&MergeLosesRow,
	&OlderOverNewer,
	&ParityWrong,
	&PostLost,
	&PostNotReplicated,
	&PushNotSent,
	&QueueLostAtRestart,
	&QuorumOfOne,
	&ResumeOffByOne,
	&RowMergedWrong,
	&RowsNotReplicated,
	&TombstoneEarly,
	&TombstoneNotReplicated,
}
