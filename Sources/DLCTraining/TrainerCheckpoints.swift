import DLCRuntime
public import DLCTensor
import Foundation

/// Checkpoints of a run, which another one goes on from.
extension Trainer {
  /// Continues from the newest checkpoint, if there is one. The rate, the schedule, the epochs and the
  /// data may be others than before, and `changes` says which are; with other data the epoch that was
  /// under way begins again.
  /// - Returns: whether there was.
  /// - Throws: `.usage` when `options.checkpoints` is nil, `.file` when another run uses it, `.binding` when the checkpoint belongs to
  ///   another run, `.format` when it is damaged.
  public func resume(file: StaticString = #fileID, line: UInt = #line) throws(DLCError) -> Bool {
    do throws(DLCError) {
      guard let directory = options.checkpoints else {
        throw DLCError(.usage, "the run has no directory of checkpoints to resume from")
      }
      // Not while another run adds to it.
      let held = try access(directory, F_OK) == 0 ? CheckpointDirectory(directory) : nil
      defer { withExtendedLifetime(held) {} }
      seen = CheckpointDirectory.checkpoints(in: directory).map { $0.path }
      guard let (checkpoint, skipped) = try Checkpoint.newest(in: directory) else { return false }
      let before = checkpoint.description
      if let obstacle = description.obstacle(from: before) {
        throw DLCError(
          .binding, "the checkpoint belongs to another run: it has \(obstacle)",
          at: directory, remedy: "start it as that one was, or choose another directory")
      }
      let wanted = Dictionary(
        holder.states.map { ($0.name, $0.type) }, uniquingKeysWith: { a, _ in a })
      guard checkpoint.state.count == wanted.count,
        checkpoint.state.allSatisfy({ wanted[$0.key] == $0.value.type })
      else {
        throw DLCError(.format, "the checkpoint does not hold the state of this run", at: directory)
      }
      try holder.setState(checkpoint.state)
      position = (checkpoint.step, checkpoint.epoch, checkpoint.cursor)
      best = checkpoint.best
      identity = checkpoint.run
      saved = checkpoint.step
      changes = description.changes(from: before)
      if best != nil, !description.watches(as: before) {
        best = nil
        if options.watch != nil {
          changes.append(
            "the best epoch is looked for by another metric or on other data: those before do not count"
          )
        }
      }
      watchedFrom = position.epoch
      if before.data != description.data, position.cursor > 0 {
        position.cursor = 0
        changes.append("epoch \(position.epoch + 1) begins again")
      }
      if let skipped { changes.append("a newer checkpoint is passed over: \(skipped)") }
      return true
    } catch {
      throw error.called(file, line)
    }
  }

  /// The directory, for this run alone.
  /// - Throws: `.file` when another run is using it, or it holds another one's checkpoints.
  func openCheckpoints() throws(DLCError) -> CheckpointDirectory? {
    guard let path = options.checkpoints else { return nil }
    let directory = try CheckpointDirectory(path)
    if let saved {
      guard directory.checkpoints.map({ $0.path }) == seen else {
        throw DLCError(
          .file, "the directory of checkpoints is in use: another run has changed it since",
          at: path)
      }
      // Damaged ones that were passed over: the run goes on before them.
      try directory.remove(after: saved)
    } else {
      try Self.requireFree(options)
      try directory.remove(after: -1)
    }
    return directory
  }

  /// Checks that a run may begin anew in its directory of checkpoints.
  /// - Throws: `.file` when that holds a run that is not to be overwritten.
  package static func requireFree(_ options: Options) throws(DLCError) {
    guard let path = options.checkpoints, !options.overwritesCheckpoints,
      let newest = CheckpointDirectory.checkpoints(in: path).last
    else { return }
    throw DLCError(
      .file, "the directory of checkpoints holds another run already, up to step \(newest.step)",
      at: path,
      remedy:
        "go on with that (--resume, Trainer.resume), remove it (--overwrite, overwritesCheckpoints), or choose another directory"
    )
  }

  func save(_ directory: CheckpointDirectory?) throws(DLCError) {
    guard let directory, saved ?? 0 != position.step else { return }
    var checkpoint = Checkpoint(
      step: position.step, epoch: position.epoch, cursor: position.cursor, state: state,
      run: identity, description: description, best: options.watch == nil ? nil : best)
    checkpoint.description.epochs = epochs
    // Those of steps that were gone back on.
    try directory.remove(after: position.step)
    try directory.write(checkpoint, keep: options.keep)
    saved = position.step
    seen = directory.checkpoints.map { $0.path }
  }
}
