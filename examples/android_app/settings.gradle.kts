pluginManagement {
    repositories {
        google()
        mavenCentral()
    }
}

dependencyResolutionManagement {
    repositories {
        google()
        mavenCentral()
    }
}

rootProject.name = "digits-app"
// The second one is what `edgekit export` makes.
include(":app", ":digits")
