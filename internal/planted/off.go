//go:build !planted

package planted

import "time"

// Built says whether this build has the bugs.
const Built = false

// Began is of no meaning here.
func Began() time.Time { return time.Time{} }

// None of these is ever so in a build without them. What each breaks is said in All.
const (
	AccountNotTold         = false
	AckBeforeSync          = false
	BlobAfterRecord        = false
	CheckpointLosesEntry   = false
	CheckpointWithoutSync  = false
	ChecksumIgnored        = false
	CommitBeforeFragments  = false
	CompactionDropsLive    = false
	ConflictAcknowledged   = false
	ContainerUpdateLost    = false
	CountOnlyGrows         = false
	CutUploadKept          = false
	DeleteRowForgotten     = false
	ETagNotChecked         = false
	ExpiresEarly           = false
	FragmentRebuiltWrong   = false
	HandoffDroppedEarly    = false
	ListingSkipsAtEdge     = false
	MergeLosesRow          = false
	OlderOverNewer         = false
	ParityWrong            = false
	PostLost               = false
	PostNotReplicated      = false
	PushNotSent            = false
	QueueLostAtRestart     = false
	QuorumOfOne            = false
	ResumeOffByOne         = false
	RowMergedWrong         = false
	RowsNotReplicated      = false
	TombstoneEarly         = false
	TombstoneNotReplicated = false
)
