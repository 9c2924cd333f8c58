import CMachine
import DLCProgram
import DLCTensor
import Dispatch
import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// A step as the workers see it.
struct BoundStep {
  /// The entry of a kernel; nil for a host call.
  var code: UnsafeRawPointer?
  var hostCall: BoundHostCall?
  var arguments: UnsafePointer<UnsafeMutableRawPointer?>
  var tileCount: Int
  var dependencies: [Int]

  @inline(__always)
  func call(_ tile: Int, _ scratch: UnsafeMutableRawPointer?) {
    if let code {
      dlc_call_kernel(code, arguments, Int64(tile), scratch)
    } else {
      hostCall!(arguments)
    }
  }
}

/// A tile that a worker did, in a run that was traced.
package struct TileEvent: Hashable, Sendable {
  package var step: Int
  package var tile: Int
  /// 0 is the thread that called.
  package var worker: Int
  /// Nanoseconds of a clock that only goes forward.
  package var start: UInt64
  package var end: UInt64
}

/// What workers do, each in a list of its own.
final class EventRecorder: @unchecked Sendable {
  // A worker writes to its own element alone; they are read when the run is over.
  private let lists: UnsafeMutablePointer<[TileEvent]>
  private let count: Int

  init(workers: Int) {
    count = workers
    lists = .allocate(capacity: workers)
    lists.initialize(repeating: [], count: workers)
  }

  deinit {
    lists.deinitialize(count: count)
    lists.deallocate()
  }

  func call(
    _ step: BoundStep, _ number: Int, tile: Int, worker: Int, _ scratch: UnsafeMutableRawPointer?
  ) {
    let start = clock_gettime_nsec()
    step.call(tile, scratch)
    lists[worker].append(
      TileEvent(step: number, tile: tile, worker: worker, start: start, end: clock_gettime_nsec()))
  }

  /// In the order in which they began.
  var events: [TileEvent] {
    (0..<count).flatMap { lists[$0] }.sorted { ($0.start, $0.worker) < ($1.start, $1.worker) }
  }

  private func clock_gettime_nsec() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
  }
}

/// Runs steps on a few workers that Dispatch lends.
///
/// The tiles of a step are shared out by number: each worker has a range of them, the same in every
/// step, so that what one step leaves in a core's cache is mostly there for the next. Workers walk the
/// steps in order and claim tiles by fetch-add, first of their own share, then of the others'; a worker
/// that finds no tile moves on, and waits only where the steps that it depends on have unfinished
/// tiles. Steps of a single tile belong to the leader (the calling thread), so that chains of small
/// steps wake nobody. Waiting spins for a while, then parks.
///
/// A helper enters a run once, not once per step. After a run it stays for a fraction of a
/// millisecond, so that runs in close succession do not pay for waking it; then it goes back to
/// Dispatch. A run never waits for a helper that has not started.
final class Executor: @unchecked Sendable {
  // Counters and helper states are atomic. `steps` and `scratch` are written by the leader before it
  // assigns the helpers, and stay until every helper that entered has left.
  private let capacity: Int
  /// For each step, how far each worker's share is claimed.
  private let claimed: UnsafeMutableRawPointer
  private let finished: UnsafeMutableRawPointer
  private let helpers: UnsafeMutableRawPointer
  private let helperCount: Int
  private var steps: [BoundStep] = []
  /// Where tiles are noted, when they are asked for; set between runs.
  var recorder: EventRecorder? {
    didSet { isTraced = recorder != nil }
  }
  /// Asked for every tile, where a reference would be counted.
  private var isTraced = false
  private var range = 0..<0
  private var scratch: [UnsafeMutableRawPointer?] = []
  private let parked = Atomic<Int>(0)
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
  private static let line = 128
  /// How long to wait before parking, in rounds of about a microsecond.
  private static let patience = 300

  /// What a helper is doing.
  private enum Helper {
    /// With Dispatch; nothing is queued for it.
    static let absent = 0
    /// Waiting for the next run.
    static let idle = 1
    /// Wanted in the present run, which it has not entered.
    static let assigned = 2
    /// Queued with Dispatch, but the run that wanted it is over.
    static let cancelled = 3
    static let running = 4
  }

  init(stepCount: Int, workers: Int) {
    capacity = max(stepCount, 1)
    // Results do not depend on how many there are.
    helperCount = AvailableMemory.allows(threads: workers - 1) ? workers - 1 : 0
    func counters(_ count: Int) -> UnsafeMutableRawPointer {
      let base = UnsafeMutableRawPointer.allocate(
        byteCount: max(count, 1) * Self.line, alignment: Self.line)
      for index in 0..<max(count, 1) {
        (base + index * Self.line).bindMemory(to: Atomic<Int>.self, capacity: 1)
          .initialize(to: Atomic(0))
      }
      return base
    }
    claimed = counters(capacity * (helperCount + 1))
    finished = counters(capacity)
    helpers = counters(helperCount)
    pthread_mutex_init(mutex, nil)
    pthread_cond_init(condition, nil)
  }

  deinit {
    pthread_mutex_destroy(mutex)
    pthread_cond_destroy(condition)
    mutex.deallocate()
    condition.deallocate()
    claimed.deallocate()
    finished.deallocate()
    helpers.deallocate()
  }

  private func counter(
    _ base: UnsafeMutableRawPointer, _ index: Int
  ) -> UnsafeMutablePointer<Atomic<Int>> {
    (base + index * Self.line).assumingMemoryBound(to: Atomic<Int>.self)
  }

  private func claims(_ step: Int, _ worker: Int) -> UnsafeMutablePointer<Atomic<Int>> {
    counter(claimed, step * (helperCount + 1) + worker)
  }

  /// The tiles that a worker is first to claim; all of a single one are the leader's.
  private func share(of worker: Int, tiles: Int) -> Range<Int> {
    let workers = helperCount + 1
    return (tiles * worker + workers - 1) / workers..<(tiles * (worker + 1) + workers - 1) / workers
  }

  private func change(_ helper: Int, from old: Int, to new: Int) -> Bool {
    counter(helpers, helper).pointee
      .compareExchange(expected: old, desired: new, ordering: .sequentiallyConsistent).exchanged
  }

  /// Runs a range of the steps. `scratch` has a pointer for each worker.
  func run(_ steps: [BoundStep], _ range: Range<Int>, scratch: [UnsafeMutableRawPointer?]) {
    var most = 0
    for index in range { most = max(most, steps[index].tileCount) }
    let wanted = min(helperCount, most - 1)
    if wanted <= 0 {
      for index in range {
        let step = steps[index]
        for tile in 0..<step.tileCount {
          if isTraced {
            recorder!.call(step, index, tile: tile, worker: 0, scratch[0])
          } else {
            step.call(tile, scratch[0])
          }
        }
      }
      return
    }
    for index in range where steps[index].tileCount > 0 {
      counter(finished, index).pointee.store(0, ordering: .relaxed)
      for worker in 0...helperCount {
        let share = share(of: worker, tiles: steps[index].tileCount)
        claims(index, worker).pointee.store(share.lowerBound, ordering: .relaxed)
      }
    }
    self.steps = steps
    self.range = range
    self.scratch = scratch
    for helper in 0..<wanted { assign(helper) }
    work(steps, range, worker: 0, scratch[0])
    for helper in 0..<wanted where !change(helper, from: Helper.assigned, to: Helper.cancelled) {
      let state = counter(helpers, helper)
      wait { state.pointee.load(ordering: .sequentiallyConsistent) != Helper.running }
    }
  }

  /// Wants a helper in the present run. There is one stay of each helper at most: Dispatch is asked for
  /// another only by who ends its absence. A helper changes its own state meanwhile (from cancelled to
  /// idle, from idle to absent), so that each state is tried until one of them still holds.
  private func assign(_ helper: Int) {
    while true {
      if change(helper, from: Helper.idle, to: Helper.assigned)
        || change(helper, from: Helper.cancelled, to: Helper.assigned)
      {
        return
      }
      if change(helper, from: Helper.absent, to: Helper.assigned) {
        DispatchQueue.global(qos: .userInitiated).async { self.help(helper) }
        return
      }
    }
  }

  /// A helper's stay: run after run, until none comes for a while.
  private func help(_ helper: Int) {
    let state = counter(helpers, helper)
    while true {
      if change(helper, from: Helper.assigned, to: Helper.running) {
        work(steps, range, worker: helper + 1, scratch[helper + 1])
        state.pointee.store(Helper.idle, ordering: .sequentiallyConsistent)
        wakeParked()
      } else {
        _ = change(helper, from: Helper.cancelled, to: Helper.idle)
      }
      // Some 100 microseconds: about twice the price of waking a thread.
      var spins = 0
      while spins < 6000, state.pointee.load(ordering: .acquiring) == Helper.idle {
        dlc_pause()
        spins += 1
      }
      if change(helper, from: Helper.idle, to: Helper.absent) { return }
    }
  }

  private func wakeParked() {
    guard parked.load(ordering: .sequentiallyConsistent) > 0 else { return }
    pthread_mutex_lock(mutex)
    pthread_cond_broadcast(condition)
    pthread_mutex_unlock(mutex)
  }

  /// - Parameter worker: 0 is the leader.
  private func work(
    _ steps: [BoundStep], _ range: Range<Int>, worker: Int, _ scratch: UnsafeMutableRawPointer?
  ) {
    for index in range {
      let tiles = steps[index].tileCount
      if tiles == 1 && worker > 0 || tiles == 0 { continue }
      guard hasUnclaimed(index, tiles) else { continue }
      // What stands before the range has been waited for.
      for dependency in steps[index].dependencies where range.contains(dependency) {
        let (done, wanted) = (counter(finished, dependency), steps[dependency].tileCount)
        wait { done.pointee.load(ordering: .sequentiallyConsistent) >= wanted }
      }
      var done = 0
      for turn in 0...helperCount {
        let owner = (worker + turn) % (helperCount + 1)
        let (claims, end) = (claims(index, owner), share(of: owner, tiles: tiles).upperBound)
        while claims.pointee.load(ordering: .relaxed) < end {
          let tile = claims.pointee.add(1, ordering: .relaxed).oldValue
          if tile >= end { break }
          if isTraced {
            recorder!.call(steps[index], index, tile: tile, worker: worker, scratch)
          } else {
            steps[index].call(tile, scratch)
          }
          done += 1
        }
      }
      guard done > 0 else { continue }
      let total = counter(finished, index).pointee.add(done, ordering: .sequentiallyConsistent)
        .newValue
      if total == tiles { wakeParked() }
    }
  }

  private func hasUnclaimed(_ step: Int, _ tiles: Int) -> Bool {
    for owner in 0...helperCount
    where claims(step, owner).pointee.load(ordering: .relaxed)
      < share(of: owner, tiles: tiles).upperBound
    {
      return true
    }
    return false
  }

  /// Waits for what another worker will bring about and announce by `wakeParked`.
  private func wait(_ holds: () -> Bool) {
    // A tile takes tens of microseconds and waking a thread a hundred, so that parking is for those who
    // wait longer than that; a processor that others want is theirs meanwhile.
    for round in 0..<Self.patience {
      for _ in 0..<64 {
        if holds() { return }
        dlc_pause()
      }
      if round % 16 == 15 { sched_yield() }
    }
    pthread_mutex_lock(mutex)
    parked.add(1, ordering: .sequentiallyConsistent)
    while !holds() { pthread_cond_wait(condition, mutex) }
    parked.subtract(1, ordering: .sequentiallyConsistent)
    pthread_mutex_unlock(mutex)
  }
}
