import CMachine
import DLCProgram
import Dispatch
import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// A step as the workers see it.
struct BoundStep {
  var code: UnsafeRawPointer
  var arguments: UnsafePointer<UnsafeMutableRawPointer?>
  var tileCount: Int
  var dependencies: [Int]
}

/// Runs steps on a few workers inside one Dispatch parallel region.
///
/// Every step has a counter of claimed tiles and one of finished tiles. Workers walk the steps in
/// order and claim tiles by fetch-add; a worker that finds no tile moves on, and waits only where the
/// steps that it depends on have unfinished tiles. Steps of a single tile belong to the leader, so
/// that chains of small steps wake nobody. Waiting spins briefly, then parks.
final class Executor: @unchecked Sendable {
  // Counters are atomic; everything else is set up before the workers start.
  private let capacity: Int
  private let claimed: UnsafeMutableRawPointer
  private let finished: UnsafeMutableRawPointer
  private let leader = Atomic<Bool>(false)
  private let parked = Atomic<Int>(0)
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
  private static let line = 128

  init(stepCount: Int) {
    capacity = max(stepCount, 1)
    claimed = .allocate(byteCount: capacity * Self.line, alignment: Self.line)
    finished = .allocate(byteCount: capacity * Self.line, alignment: Self.line)
    for index in 0..<capacity {
      (claimed + index * Self.line).bindMemory(to: Atomic<Int>.self, capacity: 1).initialize(
        to: Atomic(0))
      (finished + index * Self.line).bindMemory(to: Atomic<Int>.self, capacity: 1).initialize(
        to: Atomic(0))
    }
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
  }

  private func counter(_ base: UnsafeMutableRawPointer, _ index: Int) -> UnsafeMutablePointer<
    Atomic<Int>
  > {
    (base + index * Self.line).assumingMemoryBound(to: Atomic<Int>.self)
  }

  /// Runs all steps. `scratch` has a pointer for each worker.
  func run(_ steps: [BoundStep], scratch: [UnsafeMutableRawPointer?]) {
    let workers = scratch.count
    if workers == 1 || !steps.contains(where: { $0.tileCount > 1 }) {
      for step in steps {
        for tile in 0..<step.tileCount {
          dlc_call_kernel(step.code, step.arguments, Int64(tile), scratch[0])
        }
      }
      return
    }
    for index in steps.indices {
      counter(claimed, index).pointee.store(0, ordering: .relaxed)
      counter(finished, index).pointee.store(0, ordering: .relaxed)
    }
    leader.store(false, ordering: .sequentiallyConsistent)
    // Read by all workers, written by none; each worker has its own scratch.
    nonisolated(unsafe) let (sharedSteps, sharedScratch) = (steps, scratch)
    DispatchQueue.concurrentPerform(iterations: workers) { worker in
      let leads = !leader.exchange(true, ordering: .sequentiallyConsistent)
      work(sharedSteps, leads: leads, sharedScratch[worker])
    }
  }

  private func work(_ steps: [BoundStep], leads: Bool, _ scratch: UnsafeMutableRawPointer?) {
    for index in steps.indices {
      let tiles = steps[index].tileCount
      if tiles == 1 && !leads || tiles == 0 { continue }
      let claims = counter(claimed, index)
      if claims.pointee.load(ordering: .relaxed) >= tiles { continue }
      for dependency in steps[index].dependencies {
        wait(for: dependency, steps[dependency].tileCount)
      }
      var done = 0
      while true {
        let tile = claims.pointee.add(1, ordering: .relaxed).oldValue
        if tile >= tiles { break }
        dlc_call_kernel(steps[index].code, steps[index].arguments, Int64(tile), scratch)
        done += 1
      }
      guard done > 0 else { continue }
      let total = counter(finished, index).pointee.add(done, ordering: .sequentiallyConsistent)
        .newValue
      if total == tiles, parked.load(ordering: .sequentiallyConsistent) > 0 {
        pthread_mutex_lock(mutex)
        pthread_cond_broadcast(condition)
        pthread_mutex_unlock(mutex)
      }
    }
  }

  private func wait(for step: Int, _ tiles: Int) {
    let count = counter(finished, step)
    // About 20 microseconds of spinning, well below the price of waking a thread.
    for _ in 0..<600 {
      if count.pointee.load(ordering: .acquiring) >= tiles { return }
      dlc_pause()
    }
    pthread_mutex_lock(mutex)
    parked.add(1, ordering: .sequentiallyConsistent)
    while count.pointee.load(ordering: .sequentiallyConsistent) < tiles {
      pthread_cond_wait(condition, mutex)
    }
    parked.subtract(1, ordering: .sequentiallyConsistent)
    pthread_mutex_unlock(mutex)
  }
}
